//! What conditions of policies can ask of a call beside what every request has: the policy that it attaches, the tags that
//! it gives or takes, the tags of what it is about. Only what the action obeys counts: of others a parameter says nothing.
//!
//! See "Actions, resources, and condition keys for AWS Identity and Access Management" in the service authorization reference.

use annulus_common::tags::Tags;

use super::params::Params;

type Fact = (String, String);

/// What the call's parameters say.
pub(super) fn of_call(action: &str, params: &Params) -> Vec<Fact> {
    let fact = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let numbered = |list: &str, field: &str| {
        let name = |number: usize| format!("{list}.member.{number}{field}");
        (1..).map_while(|number| params.get(&name(number))).collect::<Vec<_>>()
    };
    let mut facts = Vec::new();
    if action.starts_with("Attach") || action.starts_with("Detach") {
        facts.extend(params.get("PolicyArn").map(|arn| fact("iam:PolicyARN", arn)));
    }
    if action.starts_with("Create") || action.starts_with("Tag") {
        for (number, key) in numbered("Tags", ".Key").into_iter().enumerate() {
            let value = params.get(&format!("Tags.member.{}.Value", number + 1)).unwrap_or_default();
            facts.extend([fact(&format!("aws:RequestTag/{key}"), value), fact("aws:TagKeys", key)]);
        }
    }
    if action.starts_with("Untag") {
        facts.extend(numbered("TagKeys", "").into_iter().map(|key| fact("aws:TagKeys", key)));
    }
    facts
}

/// What the tags of what the call is about say, by both names that IAM has for them.
pub(super) fn of_tagged(tags: Option<&Tags>) -> impl Iterator<Item = Fact> + '_ {
    let names = ["aws", "iam"];
    let facts =
        move |(key, value): (&String, &String)| names.map(|of| (format!("{of}:ResourceTag/{key}"), value.clone()));
    tags.into_iter().flatten().flat_map(facts)
}

#[cfg(test)]
mod tests {
    use super::{of_call, of_tagged};
    use crate::iam::params::Params;

    #[test]
    fn a_parameter_is_a_fact_of_what_obeys_it() {
        let form = b"PolicyArn=arn&Tags.member.1.Key=a&Tags.member.1.Value=b&TagKeys.member.1=c";
        let params = Params::parse(form).unwrap();
        let facts = |action| {
            let facts: Vec<_> = of_call(action, &params).iter().map(|(key, value)| format!("{key}={value}")).collect();
            facts.join(" ")
        };
        for (action, expected) in [
            ("AttachRolePolicy", "iam:PolicyARN=arn"),
            ("DetachUserPolicy", "iam:PolicyARN=arn"),
            ("CreateUser", "aws:RequestTag/a=b aws:TagKeys=a"),
            ("TagRole", "aws:RequestTag/a=b aws:TagKeys=a"),
            ("UntagPolicy", "aws:TagKeys=c"),
            ("DeleteUser", ""),
        ] {
            assert_eq!(facts(action), expected, "{action}");
        }
    }

    #[test]
    fn tags_have_two_names() {
        let tags = [("team".to_owned(), "red".to_owned())].into();
        let keys: Vec<_> = of_tagged(Some(&tags)).map(|(key, _)| key).collect();
        assert_eq!(keys, ["aws:ResourceTag/team", "iam:ResourceTag/team"]);
        assert_eq!(of_tagged(None).count(), 0);
    }
}

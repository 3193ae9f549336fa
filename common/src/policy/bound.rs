//! Whom policies mean: those who have the names in them when they are set. Users and roles that are made anew under an old
//! name are others, and those that are renamed are the same, so a policy keeps an id beside each name and is judged by ids.
//! See "Principal" in the JSON policy element reference of the IAM user guide, which tells of the ids that AWS shows where a
//! name is nobody's any more. What an id is and who has it, others know.

use std::collections::BTreeMap;

use serde_json::Value;

use super::document::Policy;
use super::error::PolicyError;
use super::principal::Principals;

/// The ids of users (`AIDA...`), roles (`AROA...`), sessions of roles (`AROA...:NAME`) and accounts (canonical ids), by the ARNs
/// by which a policy names them.
pub type Ids = BTreeMap<String, String>;

/// Who has a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Whom {
    /// Somebody of this id.
    Somebody(String),
    /// Nobody, in an account that is here.
    Nobody,
    /// Somebody elsewhere, whom nobody here will ever be.
    Elsewhere,
}

/// Says of a policy whom it means, as `whom` knows them. A name that is nobody's is refused, as AWS does.
pub(super) fn bind(policy: &mut Policy, whom: impl Fn(&str) -> Whom) -> Result<Ids, PolicyError> {
    let mut ids = Ids::new();
    for arn in policy.principals().flat_map(Principals::arns) {
        match whom(arn) {
            Whom::Somebody(id) => ids.extend([(arn.clone(), id)]),
            Whom::Nobody => return Err(PolicyError::Principal(format!("\"AWS\" : \"{arn}\""))),
            Whom::Elsewhere => {}
        }
    }
    policy.bind(&ids);
    Ok(ids)
}

/// A policy's text, in which those who are called otherwise now are called so: `name_of` says how, by the old name and the id.
pub(super) fn shown(text: &str, ids: &Ids, name_of: impl Fn(&str, &str) -> String) -> String {
    let now = ids.iter().map(|(arn, id)| (arn.as_str(), name_of(arn, id)));
    let changed: BTreeMap<&str, String> = now.filter(|(arn, now)| arn != now).collect();
    let (false, Ok(mut document)) = (changed.is_empty(), serde_json::from_str::<Value>(text)) else {
        return text.to_owned();
    };
    for name in document.get_mut("Statement").into_iter().flat_map(each).flat_map(named) {
        let arn =
            Principals::parse(&serde_json::json!({"AWS": &*name})).ok().and_then(|one| one.arns().first().cloned());
        if let Some(now) = arn.and_then(|arn| changed.get(arn.as_str())) {
            *name = Value::String(now.clone());
        }
    }
    document.to_string()
}

/// The names under `AWS` in a statement.
fn named(statement: &mut Value) -> impl Iterator<Item = &mut Value> {
    let elements = statement.as_object_mut().into_iter().flat_map(|elements| elements.iter_mut());
    let of_principals = elements.filter(|(name, _)| ["Principal", "NotPrincipal"].contains(&name.as_str()));
    of_principals.filter_map(|(_, principals)| principals.get_mut("AWS")).flat_map(each)
}

/// What may stand alone or in a list.
fn each(value: &mut Value) -> std::slice::IterMut<'_, Value> {
    match value {
        Value::Array(list) => list.iter_mut(),
        one => std::slice::from_mut(one).iter_mut(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Ids, shown};

    #[test]
    fn a_text_is_as_it_was_sent_unless_a_name_has_changed() {
        let (bob, tom) = ("arn:aws:iam::111122223333:user/bob", "arn:aws:iam::111122223333:user/tom");
        let text = format!(
            r#"{{ "Statement": [{{"Principal": {{"AWS": ["{tom}", "{bob}"]}}, "Condition": "{bob}"}},
                {{"NotPrincipal": {{"AWS": "{bob}"}}}}, {{"Principal": "*"}}]}}"#
        );
        let ids: Ids = [(bob, "AIDA1"), (tom, "AIDA2")].map(|(arn, id)| (arn.to_owned(), id.to_owned())).into();
        assert_eq!(shown(&text, &ids, |arn, _| arn.to_owned()), text);
        let now = shown(&text, &ids, |arn, id| if arn == bob { id.to_owned() } else { arn.to_owned() });
        let expected = format!(
            r#"{{"Statement":[{{"Condition":"{bob}","Principal":{{"AWS":["{tom}","AIDA1"]}}}},{{"NotPrincipal":{{"AWS":"AIDA1"}}}},{{"Principal":"*"}}]}}"#
        );
        assert_eq!(now, expected);
    }
}

//! Changes of identities and their limits, tried out on the model alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    ATTACHED_MAX, EntityKey, Group, Holder, Iam, IamChange, IamRefusal, Kind, ManagedPolicy, Policies, PolicyVersion,
    Profile, Record, Role, User, of_account,
};
use crate::ids::UserId;
use crate::map::AccessKey;
use crate::policy::{IdentityPolicy, TrustPolicy};
use crate::tags::Tags;

const ACCOUNT: UserId = UserId([1; 32]);
const OTHER: UserId = UserId([2; 32]);
const READ_ONLY: &str = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess";

#[derive(Default)]
struct World {
    iam: Iam,
    keys: BTreeMap<String, AccessKey>,
}

impl World {
    fn apply(&mut self, change: IamChange) -> Result<(), IamRefusal> {
        self.iam.apply(ACCOUNT, 7, &change, &mut self.keys)
    }

    fn ok(&mut self, change: IamChange) {
        self.apply(change).expect("the change is allowed");
    }

    fn key_of(&mut self, id: &str, user: &str) {
        let key = AccessKey {
            iam_user: Some(EntityKey::new(ACCOUNT, user).name),
            ..AccessKey::of_account(ACCOUNT, "secret".to_owned(), 0)
        };
        self.keys.insert(id.to_owned(), key);
    }
}

fn profile(name: &str) -> Profile {
    Profile { id: format!("AIDA{name}"), name: name.to_owned(), path: "/".to_owned(), created_ms: 1 }
}

fn user(name: &str) -> IamChange {
    IamChange::CreateUser(User {
        profile: profile(name),
        policies: Policies::default(),
        groups: Default::default(),
        tags: Tags::new(),
    })
}

fn group(name: &str) -> IamChange {
    IamChange::CreateGroup(Group { profile: profile(name), policies: Policies::default() })
}

fn policy(action: &str) -> Arc<IdentityPolicy> {
    let text = format!(r#"{{"Statement": {{"Effect": "Allow", "Action": "{action}", "Resource": "*"}}}}"#);
    Arc::new(IdentityPolicy::parse(text).expect("a policy"))
}

fn managed(name: &str) -> IamChange {
    IamChange::CreatePolicy(ManagedPolicy {
        profile: profile(name),
        description: None,
        versions: [(1, PolicyVersion { created_ms: 1, policy: policy("s3:Get*") })].into(),
        default_version: 1,
        next_version: 2,
        updated_ms: 1,
        tags: Tags::new(),
    })
}

fn of_user(name: &str) -> Holder {
    Holder::new(Kind::User, name)
}

fn attach(name: &str, arn: &str, attached: bool) -> IamChange {
    IamChange::Attach { of: of_user(name), arn: arn.to_owned(), attached }
}

fn inline(of: Holder, name: &str, policy: Option<Arc<IdentityPolicy>>) -> IamChange {
    IamChange::PutInline { of, name: name.to_owned(), policy }
}

fn join(user: &str, group: &str, member: bool) -> IamChange {
    IamChange::Join { user: user.to_owned(), group: group.to_owned(), member }
}

fn texts(policies: &[Arc<IdentityPolicy>]) -> Vec<&str> {
    policies.iter().map(|policy| policy.text()).collect()
}

#[test]
fn names_differ_by_more_than_their_case() {
    let mut world = World::default();
    world.ok(user("Bob"));
    world.ok(user("Bob"));
    assert!(
        matches!(world.apply(user("bob")), Err(IamRefusal::EntityAlreadyExists(_))),
        "asked again is no other name"
    );
    assert_eq!(world.iam.user(ACCOUNT, "BOB").expect("found").profile.name, "Bob");
    assert!(world.iam.user(OTHER, "Bob").is_none(), "accounts have names of their own");
    world.ok(user("alice"));
    world.ok(user("Carol"));
    let names: Vec<_> = of_account(&world.iam.users, ACCOUNT).map(|(_, user)| user.profile.name.as_str()).collect();
    assert_eq!(names, ["alice", "Bob", "Carol"]);
    assert!(of_account(&world.iam.users, OTHER).next().is_none());
}

#[test]
fn keys_and_groups_follow_names() {
    let mut world = World::default();
    world.ok(user("bob"));
    world.ok(group("readers"));
    world.ok(join("bob", "Readers", true));
    world.key_of("AKIA", "bob");
    let rename = |kind, from: &str, to: &str| IamChange::Rename {
        of: Holder::new(kind, from),
        name: Some(to.to_owned()),
        path: Some("/x/".to_owned()),
    };
    let touched = world.iam.touched(ACCOUNT, &rename(Kind::Group, "readers", "writers"));
    let record = |kind, name| Record { kind, key: EntityKey::new(ACCOUNT, name) };
    assert_eq!(
        touched,
        [record(Kind::Group, "readers"), record(Kind::Group, "writers"), record(Kind::User, "bob")],
        "all that is written"
    );
    world.ok(rename(Kind::Group, "readers", "writers"));
    world.ok(rename(Kind::User, "bob", "Robert"));
    let robert = world.iam.user(ACCOUNT, "robert").expect("renamed");
    assert!(robert.groups.iter().map(|group| group.as_str()).eq(["writers"]));
    assert_eq!(robert.profile.arn(ACCOUNT, Kind::User), format!("arn:aws:iam::{}:user/x/Robert", ACCOUNT.number()));
    assert!(world.keys["AKIA"].is_of(ACCOUNT, &EntityKey::new(ACCOUNT, "ROBERT").name));
    world.ok(user("other"));
    assert!(matches!(world.apply(rename(Kind::User, "robert", "OTHER")), Err(IamRefusal::EntityAlreadyExists(_))));
    world.ok(rename(Kind::User, "robert", "ROBERT"));
}

#[test]
fn what_is_in_use_is_not_removed() {
    let mut world = World::default();
    world.ok(user("bob"));
    world.ok(group("readers"));
    world.ok(managed("own"));
    let arn = format!("arn:aws:iam::{}:policy/own", ACCOUNT.number());
    let steps = [
        (attach("bob", &arn, true), attach("bob", &arn, false)),
        (inline(of_user("bob"), "p", Some(policy("s3:*"))), inline(of_user("bob"), "p", None)),
        (join("bob", "readers", true), join("bob", "readers", false)),
    ];
    for (begin, end) in steps {
        world.ok(begin);
        assert!(matches!(world.apply(IamChange::Delete(of_user("bob"))), Err(IamRefusal::DeleteConflict(_))));
        world.ok(end);
    }
    world.key_of("AKIA", "bob");
    assert!(matches!(world.apply(IamChange::Delete(of_user("bob"))), Err(IamRefusal::DeleteConflict(_))));
    world.keys.clear();
    world.ok(attach("bob", &arn, true));
    let delete_policy = IamChange::Delete(Holder::new(Kind::Policy, "own"));
    assert!(matches!(world.apply(delete_policy.clone()), Err(IamRefusal::DeleteConflict(_))), "it is attached");
    world.ok(attach("bob", &arn, false));
    world.ok(delete_policy);
    world.ok(IamChange::Delete(of_user("Bob")));
    assert!(matches!(world.apply(IamChange::Delete(of_user("bob"))), Err(IamRefusal::NoSuchEntity(_))));
}

#[test]
fn a_user_has_its_own_policies_and_its_groups() {
    let mut world = World::default();
    world.ok(user("bob"));
    world.ok(group("readers"));
    world.ok(managed("own"));
    let arn = format!("arn:aws:iam::{}:policy/own", ACCOUNT.number());
    world.ok(inline(of_user("bob"), "p", Some(policy("s3:PutObject"))));
    world.ok(attach("bob", &arn, true));
    world.ok(inline(Holder::new(Kind::Group, "readers"), "g", Some(policy("s3:List*"))));
    let bob = |world: &World| world.iam.user(ACCOUNT, "bob").expect("there").clone();
    assert_eq!(world.iam.policies_of_user(ACCOUNT, &bob(&world)).len(), 2);
    world.ok(join("bob", "readers", true));
    let held = world.iam.policies_of_user(ACCOUNT, &bob(&world));
    assert_eq!(texts(&held), [policy("s3:PutObject").text(), policy("s3:Get*").text(), policy("s3:List*").text()]);
    let version = PolicyVersion { created_ms: 2, policy: policy("s3:Delete*") };
    let create = |number, default| IamChange::CreateVersion {
        policy: "own".to_owned(),
        number,
        version: version.clone(),
        default,
    };
    world.ok(create(2, false));
    world.ok(create(2, false));
    assert_eq!(world.apply(create(4, false)), Err(IamRefusal::ConcurrentModification));
    assert_eq!(world.iam.policy_in_force(ACCOUNT, &arn).expect("there").text(), policy("s3:Get*").text());
    world.ok(IamChange::SetDefaultVersion { policy: "own".to_owned(), number: 2 });
    assert_eq!(world.iam.policy_in_force(ACCOUNT, &arn).expect("there").text(), policy("s3:Delete*").text());
    let delete = |number| IamChange::DeleteVersion { policy: "own".to_owned(), number };
    assert!(matches!(world.apply(delete(2)), Err(IamRefusal::DeleteConflict(_))), "it is in force");
    world.ok(delete(1));
    assert!(matches!(world.apply(delete(1)), Err(IamRefusal::NoSuchEntity(_))));
}

#[test]
fn limits_hold() {
    let mut world = World::default();
    world.ok(user("bob"));
    for number in 0..ATTACHED_MAX {
        world.ok(managed(&format!("p{number}")));
        let arn = format!("arn:aws:iam::{}:policy/p{number}", ACCOUNT.number());
        world.ok(attach("bob", &arn, true));
    }
    assert!(matches!(world.apply(attach("bob", READ_ONLY, true)), Err(IamRefusal::LimitExceeded(_))));
    let long = policy(&format!("s3:{}", "x".repeat(1_200)));
    world.ok(inline(of_user("bob"), "a", Some(long.clone())));
    world.ok(inline(of_user("bob"), "a", Some(long.clone())));
    let second = world.apply(inline(of_user("bob"), "b", Some(long)));
    assert!(matches!(second, Err(IamRefusal::LimitExceeded(_))), "2,048 characters in all");
    assert!(matches!(
        world.apply(attach("bob", "arn:aws:iam::aws:policy/None", true)),
        Err(IamRefusal::NoSuchEntity(_))
    ));
    assert!(matches!(world.apply(attach("bob", READ_ONLY, false)), Err(IamRefusal::NoSuchEntity(_))));
    let tags = (0..51).map(|number| (number.to_string(), String::new())).collect();
    let tag = |set, removed| IamChange::Tag { of: of_user("bob"), set, removed };
    assert!(matches!(world.apply(tag(tags, Vec::new())), Err(IamRefusal::LimitExceeded(_))));
    world.ok(tag(vec![("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())], Vec::new()));
    world.ok(tag(vec![("b".to_owned(), "3".to_owned())], vec!["a".to_owned()]));
    assert_eq!(world.iam.user(ACCOUNT, "bob").expect("there").tags, Tags::from([("b".to_owned(), "3".to_owned())]));
}

#[test]
fn roles_say_whom_they_trust() {
    let mut world = World::default();
    let trust = |principal: &str| {
        let text = format!(
            r#"{{"Statement": {{"Effect": "Allow", "Principal": {{"AWS": "{principal}"}}, "Action": "sts:AssumeRole"}}}}"#
        );
        Arc::new(TrustPolicy::parse(text).expect("a trust policy"))
    };
    world.ok(IamChange::CreateRole(Role {
        profile: profile("r"),
        trust: trust("*"),
        policies: Policies::default(),
        description: None,
        session_seconds_max: 3_600,
        tags: Tags::new(),
    }));
    world.ok(IamChange::UpdateRole {
        name: "R".to_owned(),
        trust: Some(trust("000000000001")),
        description: None,
        session_seconds_max: Some(7_200),
    });
    let role = world.iam.role(ACCOUNT, "r").expect("there");
    assert_eq!((role.session_seconds_max, &role.trust), (7_200, &trust("000000000001")));
    world.iam.forget(OTHER);
    assert_eq!(world.iam.records_of(ACCOUNT).len(), 1);
    world.iam.forget(ACCOUNT);
    assert!(world.iam.records().is_empty());
}

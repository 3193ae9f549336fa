//! Who asks, by the names that a policy can know them by, and the element of a policy that names them.

use serde_json::{Map, Value};

use super::bound::Ids;
use super::error::PolicyError;
use crate::ids::{AccountNumber, UserId};

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Principal {
    /// Somebody who did not sign.
    Anonymous,
    /// An account itself: what AWS calls its root user.
    Account {
        /// The account.
        id: UserId,
    },
    /// A user of an account.
    User {
        /// The account.
        account: UserId,
        /// `arn:aws:iam::ACCOUNT:user/PATH/NAME`
        arn: String,
        /// Its id, which no other user ever has.
        id: String,
        /// Its name.
        name: String,
    },
    /// Somebody who has assumed a role of an account.
    Role {
        /// The account.
        account: UserId,
        /// `arn:aws:iam::ACCOUNT:role/PATH/NAME`
        arn: String,
        /// `arn:aws:sts::ACCOUNT:assumed-role/NAME/SESSION`
        session: String,
        /// The role's id and the session's name: `AROA...:SESSION`.
        id: String,
    },
    /// A service that acts by itself, such as `logging.s3.amazonaws.com`.
    Service(&'static str),
}

impl Principal {
    /// The account that asks. A service belongs to none.
    pub fn account(&self) -> Option<UserId> {
        match self {
            Self::Anonymous => Some(UserId::ANONYMOUS),
            Self::Account { id, .. } => Some(*id),
            Self::User { account, .. } | Self::Role { account, .. } => Some(*account),
            Self::Service(_) => None,
        }
    }

    /// What `aws:PrincipalArn` says.
    pub fn arn(&self) -> Option<String> {
        match self {
            Self::Account { id, .. } => Some(account_arn(*id)),
            Self::User { arn, .. } | Self::Role { arn, .. } => Some(arn.clone()),
            Self::Anonymous | Self::Service(_) => None,
        }
    }
}

/// The name of an account in policies.
pub fn account_arn(account: UserId) -> String {
    format!("arn:aws:iam::{}:root", account.number())
}

/// How a policy names the one who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Named {
    /// Not at all.
    No,
    /// By the account: whom in it, the account's own policies say.
    ByAccount,
    /// As everybody, or by name.
    Itself,
    /// By the session's own name.
    BySession,
}

/// `Principal` or `NotPrincipal`: whom a statement is about.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Principals {
    /// `"*"`, services too.
    everybody: bool,
    /// `{"AWS": "*"}`: everybody but services.
    every_caller: bool,
    /// Accounts, by number, by canonical id, or by either in `arn:aws:iam::ID:root`.
    accounts: Vec<AccountNumber>,
    /// Users, roles and sessions, by ARN, and accounts by name: `arn:aws:iam:::user/NAME`.
    arns: Vec<String>,
    /// The ids of those who had these ARNs when the policy was set: another who has one of them later is not meant.
    ids: Vec<String>,
    /// Services.
    services: Vec<String>,
}

impl Principals {
    /// The principals that the element names. Well-formed names of accounts, users and roles that are not ours name nobody.
    pub(super) fn parse(element: &Value) -> Result<Self, PolicyError> {
        match element {
            Value::String(text) if text == "*" => Ok(Self { everybody: true, ..Self::default() }),
            Value::Object(kinds) if !kinds.is_empty() => Self::of_kinds(kinds),
            other => Err(PolicyError::Principal(other.to_string())),
        }
    }

    fn of_kinds(kinds: &Map<String, Value>) -> Result<Self, PolicyError> {
        let mut principals = Self::default();
        for (kind, names) in kinds {
            let listed = match names {
                Value::Array(listed) => listed.as_slice(),
                one => std::slice::from_ref(one),
            };
            if listed.is_empty() {
                return Err(nobody(kind, names));
            }
            for name in listed {
                let known = name.as_str().is_some_and(|name| principals.add(kind, name).is_some());
                if !known {
                    return Err(nobody(kind, name));
                }
            }
        }
        Ok(principals)
    }

    /// Adds who is named; nothing if that can be nobody.
    fn add(&mut self, kind: &str, name: &str) -> Option<()> {
        match kind {
            "AWS" if name == "*" => self.every_caller = true,
            "AWS" => self.add_account(name)?,
            "CanonicalUser" => self.accounts.push(UserId::parse(name)?.number()),
            "Service" if is_host(name) => self.services.push(name.to_ascii_lowercase()),
            // Who is known by another provider is nobody here.
            "Federated" if !name.is_empty() && !name.contains(['*', '?']) => {}
            _ => return None,
        }
        Some(())
    }

    fn add_account(&mut self, name: &str) -> Option<()> {
        if let Some(account) = account_number(name) {
            self.accounts.push(account);
            return Some(());
        }
        let mut parts = name.splitn(6, ':');
        let mut part = || parts.next().filter(|part| !part.contains(['*', '?', '$']));
        let (arn, partition, service, region, account, resource) =
            (part()?, part()?, part()?, part()?, part()?, part()?);
        let is_account = account.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if arn != "arn" || !partition.starts_with("aws") || !region.is_empty() || !is_account {
            return None;
        }
        match (service, resource.split_once('/')) {
            ("iam", None) if resource == "root" && !account.is_empty() => self.accounts.extend(account_number(account)),
            ("iam", Some(("user", user))) if account.is_empty() && !user.is_empty() => {
                self.arns.push(format!("arn:aws:iam:::{resource}"));
            }
            ("iam", Some(("user" | "role", name))) if !name.is_empty() => self.add_arn(service, account, resource),
            ("sts", Some(("assumed-role" | "federated-user", name))) if !name.is_empty() => {
                self.add_arn(service, account, resource);
            }
            _ => return None,
        }
        Some(())
    }

    /// The ARNs of users, roles and sessions name accounts by number.
    fn add_arn(&mut self, service: &str, account: &str, resource: &str) {
        self.arns.extend(account_number(account).map(|account| format!("arn:aws:{service}::{account}:{resource}")));
    }

    /// Those who are named otherwise than by an account's number.
    pub(super) fn arns(&self) -> &[String] {
        &self.arns
    }

    /// Says who they are. Whoever is not among them is nobody.
    pub(super) fn bind(&mut self, ids: &Ids) {
        self.ids = self.arns.iter().filter_map(|arn| ids.get(arn)).cloned().collect();
    }

    /// Whether `NotPrincipal` excepts the one who asks: an account that is named excepts itself, and nobody in it.
    pub(super) fn excepts(&self, principal: &Principal) -> bool {
        match self.name(principal) {
            Named::No => false,
            Named::ByAccount => matches!(principal, Principal::Account { .. }),
            Named::Itself | Named::BySession => true,
        }
    }

    /// How the one who asks is named.
    pub(super) fn name(&self, principal: &Principal) -> Named {
        match principal {
            _ if self.everybody => Named::Itself,
            Principal::Service(service) => match self.services.iter().any(|name| name == service) {
                true => Named::Itself,
                false => Named::No,
            },
            _ if self.every_caller => Named::Itself,
            _ if self.ids.is_empty() => self.name_by_account(principal),
            Principal::Account { id } if self.has_id(&id.to_string()) => Named::Itself,
            Principal::User { id, .. } if self.has_id(id) => Named::Itself,
            Principal::Role { id, .. } if self.has_id(id) => Named::BySession,
            Principal::Role { id, .. } if id.split(':').next().is_some_and(|role| self.has_id(role)) => Named::Itself,
            _ => self.name_by_account(principal),
        }
    }

    fn has_id(&self, id: &str) -> bool {
        self.ids.iter().any(|known| known == id)
    }

    fn name_by_account(&self, principal: &Principal) -> Named {
        match principal.account() {
            Some(UserId::ANONYMOUS) | None => Named::No,
            Some(account) if self.accounts.contains(&account.number()) => Named::ByAccount,
            Some(_) => Named::No,
        }
    }

    /// Whether it names everybody.
    pub(super) fn is_everybody(&self) -> bool {
        self.everybody || self.every_caller
    }
}

/// As S3 shows a principal that it does not take: `"AWS" : "alice"`.
fn nobody(kind: &str, name: &Value) -> PolicyError {
    PolicyError::Principal(format!("\"{kind}\" : {name}"))
}

/// An account by its number or its canonical id.
fn account_number(text: &str) -> Option<AccountNumber> {
    AccountNumber::parse(text).or_else(|| UserId::parse(text).map(|id| id.number()))
}

fn is_host(name: &str) -> bool {
    name.contains('.') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Named, Principal, Principals};
    use crate::ids::UserId;

    fn alice() -> Principal {
        Principal::Account { id: UserId([1; 32]) }
    }

    /// As those are named who have these ids and ARNs.
    fn named_among(ids: &[(&str, &str)], element: &Value, principal: &Principal) -> Named {
        let mut principals = Principals::parse(element).expect("principals");
        principals.bind(&ids.iter().map(|(arn, id)| ((*arn).to_owned(), (*id).to_owned())).collect());
        principals.name(principal)
    }

    fn named(element: &Value, principal: &Principal) -> Named {
        named_among(&[("arn:aws:iam:::user/alice", &UserId([1; 32]).to_string())], element, principal)
    }

    #[test]
    fn everybody_is_everybody() {
        let service = Principal::Service("logging.s3.amazonaws.com");
        for principal in [alice(), Principal::Anonymous] {
            assert_eq!(named(&json!("*"), &principal), Named::Itself);
            assert_eq!(named(&json!({"AWS": "*"}), &principal), Named::Itself);
            assert_eq!(named(&json!({"AWS": ["*"]}), &principal), Named::Itself);
        }
        assert_eq!(named(&json!("*"), &service), Named::Itself);
        assert_eq!(named(&json!({"AWS": "*"}), &service), Named::No);
        assert_eq!(named(&json!({"Service": "logging.s3.amazonaws.com"}), &service), Named::Itself);
        assert_eq!(named(&json!({"Service": ["logging.s3.amazonaws.comkaboom"]}), &service), Named::No);
        assert_eq!(named(&json!({"Service": "logging.s3.amazonaws.com"}), &alice()), Named::No);
    }

    #[test]
    fn an_account_has_several_names() {
        let id = UserId([1; 32]).to_string();
        for (element, expected) in [
            (json!({"AWS": format!("arn:aws:iam::{id}:root")}), Named::ByAccount),
            (json!({"AWS": id}), Named::ByAccount),
            (json!({"CanonicalUser": id}), Named::ByAccount),
            (json!({"AWS": "arn:aws:iam:::user/alice"}), Named::Itself),
            (json!({"AWS": "arn:aws:iam:::user/bob"}), Named::No),
            (json!({"AWS": ["arn:aws:iam::s3tenant1:root", "111122223333"]}), Named::No),
            (json!({"AWS": "arn:aws:iam::111122223333:role/x/y"}), Named::No),
            (json!({"AWS": "arn:aws:sts::111122223333:assumed-role/x/y"}), Named::No),
            (json!({"Federated": "cognito-identity.amazonaws.com"}), Named::No),
            (json!({"Federated": "www.example.com", "AWS": id}), Named::ByAccount),
        ] {
            assert_eq!(named(&element, &alice()), expected, "{element}");
            assert_eq!(named(&element, &Principal::Anonymous), Named::No, "{element}");
        }
    }

    #[test]
    fn users_and_roles_are_named_by_their_arns_and_by_their_account() {
        let account = UserId([1; 32]);
        let (number, arn) =
            (account.number(), |resource: &str| format!("arn:aws:iam::{}:{resource}", account.number()));
        let user = Principal::User { account, arn: arn("user/x/bob"), id: "AIDA".to_owned(), name: "bob".to_owned() };
        let session = format!("arn:aws:sts::{number}:assumed-role/reader/s");
        let role =
            Principal::Role { account, arn: arn("role/reader"), session: session.clone(), id: "AROA:s".to_owned() };
        let known = [(arn("user/x/bob"), "AIDA"), (arn("role/reader"), "AROA"), (session.clone(), "AROA:s")];
        let known: Vec<(&str, &str)> = known.iter().map(|(arn, id)| (arn.as_str(), *id)).collect();
        for (element, of_user, of_role) in [
            (arn("user/x/bob"), Named::Itself, Named::No),
            (format!("arn:aws:iam::{account}:user/x/bob"), Named::Itself, Named::No),
            (arn("user/bob"), Named::No, Named::No),
            (arn("role/reader"), Named::No, Named::Itself),
            (session, Named::No, Named::BySession),
            (arn("root"), Named::ByAccount, Named::ByAccount),
            (number.to_string(), Named::ByAccount, Named::ByAccount),
            ("arn:aws:iam::000000000001:root".to_owned(), Named::No, Named::No),
        ] {
            let element = json!({"AWS": element});
            assert_eq!(named_among(&known, &element, &user), of_user, "{element}");
            assert_eq!(named_among(&known, &element, &role), of_role, "{element}");
            assert_eq!(named(&json!({"AWS": "*"}), &user), Named::Itself);
            let others = known.iter().map(|(arn, _)| (*arn, "AIDAOFANOTHER")).collect::<Vec<_>>();
            let by_name = [Named::Itself, Named::BySession];
            assert!(!by_name.contains(&named_among(&others, &element, &user)), "{element}: another of that name");
            assert!(!by_name.contains(&named_among(&[], &element, &role)), "{element}: nobody of that name");
        }
        let but_account = Principals::parse(&json!({"AWS": arn("root")})).expect("principals");
        assert!(but_account.excepts(&alice()) && !but_account.excepts(&user), "an account excepts itself alone");
    }

    #[test]
    fn what_can_be_nobody_is_refused() {
        for wrong in [
            json!("alice"),
            json!(["*"]),
            json!({}),
            json!({"AWS": []}),
            json!({"AWS": [1]}),
            json!({"AWS": "alice"}),
            json!({"AWS": "arn:aws:iam::*:root"}),
            json!({"AWS": "arn:aws:iam::111122223333:user/*"}),
            json!({"AWS": "arn:aws:iam::111122223333:group/x"}),
            json!({"AWS": "arn:aws:s3:::bucket"}),
            json!({"AWS": "arn:aws:iam:::root"}),
            json!({"CanonicalUser": "abc"}),
            json!({"Service": "*"}),
            json!({"Everyone": "*"}),
            json!({"aws": "*"}),
        ] {
            assert!(Principals::parse(&wrong).is_err(), "{wrong}");
        }
    }
}

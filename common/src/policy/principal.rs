//! Who asks, by the names that a policy can know them by, and the element of a policy that names them.

use serde_json::{Map, Value};

use super::error::PolicyError;
use crate::ids::UserId;

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Principal {
    /// Somebody who did not sign.
    Anonymous,
    /// An account itself: what AWS calls its root user.
    Account {
        /// The account.
        id: UserId,
        /// Its unique name.
        name: String,
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
            Self::Service(_) => None,
        }
    }

    /// What `aws:PrincipalArn` says.
    pub fn arn(&self) -> Option<String> {
        match self {
            Self::Account { id, .. } => Some(account_arn(*id)),
            Self::Anonymous | Self::Service(_) => None,
        }
    }
}

/// The name of an account in policies.
pub fn account_arn(account: UserId) -> String {
    format!("arn:aws:iam::{account}:root")
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
}

/// `Principal` or `NotPrincipal`: whom a statement is about.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Principals {
    /// `"*"`, services too.
    everybody: bool,
    /// `{"AWS": "*"}`: everybody but services.
    every_caller: bool,
    /// Accounts, by canonical id or as `arn:aws:iam::ID:root`.
    accounts: Vec<UserId>,
    /// Accounts by name: `arn:aws:iam:::user/NAME`.
    names: Vec<String>,
    /// Services.
    services: Vec<String>,
}

impl Principals {
    /// The principals that the element names. Well-formed names of accounts, users and roles that are not ours name nobody.
    pub(super) fn parse(element: &Value) -> Result<Self, PolicyError> {
        match element {
            Value::String(text) if text == "*" => Ok(Self { everybody: true, ..Self::default() }),
            Value::Object(kinds) if !kinds.is_empty() => Self::of_kinds(kinds),
            _ => Err(PolicyError::Principal),
        }
    }

    fn of_kinds(kinds: &Map<String, Value>) -> Result<Self, PolicyError> {
        let mut principals = Self::default();
        for (kind, names) in kinds {
            let names: Vec<&str> = match names {
                Value::String(name) => vec![name],
                Value::Array(names) => {
                    names.iter().map(|name| name.as_str().ok_or(PolicyError::Principal)).collect::<Result<_, _>>()?
                }
                _ => return Err(PolicyError::Principal),
            };
            if names.is_empty() {
                return Err(PolicyError::Principal);
            }
            for name in names {
                principals.add(kind, name)?;
            }
        }
        Ok(principals)
    }

    fn add(&mut self, kind: &str, name: &str) -> Result<(), PolicyError> {
        match kind {
            "AWS" if name == "*" => self.every_caller = true,
            "AWS" => self.add_account(name)?,
            "CanonicalUser" => self.accounts.push(UserId::parse(name).ok_or(PolicyError::Principal)?),
            "Service" if is_host(name) => self.services.push(name.to_ascii_lowercase()),
            // Who is known by another provider is nobody here.
            "Federated" if !name.is_empty() && !name.contains(['*', '?']) => {}
            _ => return Err(PolicyError::Principal),
        }
        Ok(())
    }

    fn add_account(&mut self, name: &str) -> Result<(), PolicyError> {
        if let Some(account) = UserId::parse(name) {
            self.accounts.push(account);
            return Ok(());
        }
        if name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(());
        }
        let mut parts = name.splitn(6, ':');
        let mut part = || parts.next().filter(|part| !part.contains(['*', '?', '$'])).ok_or(PolicyError::Principal);
        let (arn, partition, service, region, account, resource) =
            (part()?, part()?, part()?, part()?, part()?, part()?);
        let is_account = account.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if arn != "arn" || !partition.starts_with("aws") || !region.is_empty() || !is_account {
            return Err(PolicyError::Principal);
        }
        match (service, resource.split_once('/')) {
            ("iam", None) if resource == "root" && !account.is_empty() => self.accounts.extend(UserId::parse(account)),
            ("iam", Some(("user", user))) if account.is_empty() && !user.is_empty() => self.names.push(user.to_owned()),
            ("iam", Some(("user" | "role", name))) if !name.is_empty() => {}
            ("sts", Some(("assumed-role" | "federated-user", name))) if !name.is_empty() => {}
            _ => return Err(PolicyError::Principal),
        }
        Ok(())
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
            Principal::Account { name, .. } if self.names.contains(name) => Named::Itself,
            Principal::Account { id, .. } if self.accounts.contains(id) => Named::ByAccount,
            Principal::Account { .. } | Principal::Anonymous => Named::No,
        }
    }

    /// Whether it names everybody.
    pub(super) fn is_everybody(&self) -> bool {
        self.everybody || self.every_caller
    }
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
        Principal::Account { id: UserId([1; 32]), name: "alice".to_owned() }
    }

    fn named(element: &Value, principal: &Principal) -> Named {
        Principals::parse(element).expect("principals").name(principal)
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

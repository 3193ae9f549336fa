//! What identities may be called, and how ARNs write them. See "IAM identifiers" in the IAM user guide.

use serde::{Deserialize, Serialize};

use super::Kind;
use crate::ids::UserId;

/// The longest path.
const PATH_CHARS_MAX: usize = 512;

/// A name as it is compared: names differ by more than the case of their letters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct FoldedName(String);

impl FoldedName {
    /// Before all others.
    pub(super) const FIRST: Self = Self(String::new());

    /// The name, folded. Names are ASCII.
    pub fn of(name: &str) -> Self {
        Self(name.to_ascii_lowercase())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a user, a group, a role or a policy may have that name.
pub fn is_name(name: &str, chars_max: usize) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    (1..=chars_max).contains(&name.len()) && name.bytes().all(is_good)
}

/// Whether a path may be that: `/`, or printable characters between two slashes.
pub fn is_path(path: &str) -> bool {
    path.len() <= PATH_CHARS_MAX
        && path.starts_with('/')
        && path.ends_with('/')
        && path.bytes().all(|byte| byte.is_ascii_graphic())
}

/// `arn:aws:iam::ACCOUNT:user/PATH/NAME`
pub fn arn(account: UserId, kind: Kind, path: &str, name: &str) -> String {
    format!("arn:aws:iam::{}:{}{path}{name}", account.number(), kind.in_arns())
}

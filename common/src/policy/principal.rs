//! Who asks, by the names that a policy can know them by.

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

//! Which policies hold for a user, a role or a session: what the evaluation of a request asks.

use std::sync::Arc;

use super::{AwsPolicy, Iam, Policies, Role, User};
use crate::ids::UserId;
use crate::policy::IdentityPolicy;

impl Iam {
    /// A user's own policies, and those of its groups.
    pub fn policies_of_user(&self, account: UserId, user: &User) -> Vec<Arc<IdentityPolicy>> {
        let mut policies = self.given(account, &user.policies);
        for group in user.groups.iter().filter_map(|name| self.group(account, name.as_str())) {
            policies.extend(self.given(account, &group.policies));
        }
        policies
    }

    /// A role's policies.
    pub fn policies_of_role(&self, account: UserId, role: &Role) -> Vec<Arc<IdentityPolicy>> {
        self.given(account, &role.policies)
    }

    /// What the managed policy of that ARN says, AWS's own or the account's.
    pub fn policy_in_force(&self, account: UserId, arn: &str) -> Option<&Arc<IdentityPolicy>> {
        match AwsPolicy::of_arn(arn) {
            Some(aws) => Some(&aws.policy),
            None => self.policy(account, arn)?.in_force(),
        }
    }

    fn given(&self, account: UserId, policies: &Policies) -> Vec<Arc<IdentityPolicy>> {
        let attached = policies.attached.iter().filter_map(|arn| self.policy_in_force(account, arn));
        policies.inline.values().chain(attached).cloned().collect()
    }
}

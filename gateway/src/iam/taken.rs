//! The parameters that each action takes. One that asks for what is not built is refused, never ignored: a user whose maker
//! believes it bounded would not be.

use super::Service;
use super::error::IamError;
use super::params::Params;

/// What every request may have.
const OF_ALL: [&str; 2] = ["Action", "Version"];

/// IAM's actions.
const IAM: &[(&str, &str)] = &[
    ("AddUserToGroup", "GroupName UserName"),
    ("AttachGroupPolicy", "GroupName PolicyArn"),
    ("AttachRolePolicy", "RoleName PolicyArn"),
    ("AttachUserPolicy", "UserName PolicyArn"),
    ("CreateAccessKey", "UserName"),
    ("CreateGroup", "Path GroupName"),
    ("CreatePolicy", "PolicyName Path PolicyDocument Description Tags"),
    ("CreatePolicyVersion", "PolicyArn PolicyDocument SetAsDefault"),
    ("CreateRole", "Path RoleName AssumeRolePolicyDocument Description MaxSessionDuration Tags"),
    ("CreateUser", "Path UserName Tags"),
    ("DeleteAccessKey", "UserName AccessKeyId"),
    ("DeleteGroup", "GroupName"),
    ("DeleteGroupPolicy", "GroupName PolicyName"),
    ("DeleteLoginProfile", "UserName"),
    ("DeletePolicy", "PolicyArn"),
    ("DeletePolicyVersion", "PolicyArn VersionId"),
    ("DeleteRole", "RoleName"),
    ("DeleteRolePolicy", "RoleName PolicyName"),
    ("DeleteUser", "UserName"),
    ("DeleteUserPolicy", "UserName PolicyName"),
    ("DetachGroupPolicy", "GroupName PolicyArn"),
    ("DetachRolePolicy", "RoleName PolicyArn"),
    ("DetachUserPolicy", "UserName PolicyArn"),
    ("GetAccessKeyLastUsed", "AccessKeyId"),
    ("GetAccountSummary", ""),
    ("GetGroup", "GroupName Marker MaxItems"),
    ("GetGroupPolicy", "GroupName PolicyName"),
    ("GetLoginProfile", "UserName"),
    ("GetPolicy", "PolicyArn"),
    ("GetPolicyVersion", "PolicyArn VersionId"),
    ("GetRole", "RoleName"),
    ("GetRolePolicy", "RoleName PolicyName"),
    ("GetUser", "UserName"),
    ("GetUserPolicy", "UserName PolicyName"),
    ("ListAccessKeys", "UserName Marker MaxItems"),
    ("ListAccountAliases", "Marker MaxItems"),
    ("ListAttachedGroupPolicies", "GroupName PathPrefix Marker MaxItems"),
    ("ListAttachedRolePolicies", "RoleName PathPrefix Marker MaxItems"),
    ("ListAttachedUserPolicies", "UserName PathPrefix Marker MaxItems"),
    ("ListEntitiesForPolicy", "PolicyArn EntityFilter PathPrefix PolicyUsageFilter Marker MaxItems"),
    ("ListGroupPolicies", "GroupName Marker MaxItems"),
    ("ListGroups", "PathPrefix Marker MaxItems"),
    ("ListGroupsForUser", "UserName Marker MaxItems"),
    ("ListInstanceProfilesForRole", "RoleName Marker MaxItems"),
    ("ListMFADevices", "UserName Marker MaxItems"),
    ("ListOpenIDConnectProviders", ""),
    ("ListPolicies", "Scope OnlyAttached PathPrefix Marker MaxItems"),
    ("ListPolicyTags", "PolicyArn Marker MaxItems"),
    ("ListPolicyVersions", "PolicyArn Marker MaxItems"),
    ("ListRolePolicies", "RoleName Marker MaxItems"),
    ("ListRoleTags", "RoleName Marker MaxItems"),
    ("ListRoles", "PathPrefix Marker MaxItems"),
    ("ListSSHPublicKeys", "UserName Marker MaxItems"),
    ("ListServiceSpecificCredentials", "UserName Marker MaxItems"),
    ("ListSigningCertificates", "UserName Marker MaxItems"),
    ("ListUserPolicies", "UserName Marker MaxItems"),
    ("ListUserTags", "UserName Marker MaxItems"),
    ("ListUsers", "PathPrefix Marker MaxItems"),
    ("ListVirtualMFADevices", "AssignmentStatus Marker MaxItems"),
    ("PutGroupPolicy", "GroupName PolicyName PolicyDocument"),
    ("PutRolePolicy", "RoleName PolicyName PolicyDocument"),
    ("PutUserPolicy", "UserName PolicyName PolicyDocument"),
    ("RemoveUserFromGroup", "GroupName UserName"),
    ("SetDefaultPolicyVersion", "PolicyArn VersionId"),
    ("TagPolicy", "PolicyArn Tags"),
    ("TagRole", "RoleName Tags"),
    ("TagUser", "UserName Tags"),
    ("UntagPolicy", "PolicyArn TagKeys"),
    ("UntagRole", "RoleName TagKeys"),
    ("UntagUser", "UserName TagKeys"),
    ("UpdateAccessKey", "UserName AccessKeyId Status"),
    ("UpdateAssumeRolePolicy", "RoleName PolicyDocument"),
    ("UpdateGroup", "GroupName NewPath NewGroupName"),
    ("UpdateRole", "RoleName Description MaxSessionDuration"),
    ("UpdateRoleDescription", "RoleName Description"),
    ("UpdateUser", "UserName NewPath NewUserName"),
];

/// STS's actions.
const STS: &[(&str, &str)] = &[
    ("AssumeRole", "RoleArn RoleSessionName PolicyArns Policy DurationSeconds ExternalId"),
    ("GetCallerIdentity", ""),
    ("GetSessionToken", "DurationSeconds"),
];

/// What the action takes, in order and with spaces between; nothing if there is no such action.
pub(super) fn taken(service: Service, action: &str) -> Option<&'static str> {
    let actions = match service {
        Service::Iam => IAM,
        Service::Sts => STS,
    };
    actions.iter().find(|(known, _)| *known == action).map(|(_, taken)| *taken)
}

/// Refuses an action that there is not, and a parameter that the action does not take.
pub(super) fn check(service: Service, action: &str, params: &Params) -> Result<(), IamError> {
    if let Some(asked) = params.get("Version").filter(|asked| *asked != service.version()) {
        return Err(IamError::InvalidAction(format!("{action} for version {asked}")));
    }
    let taken = taken(service, action).ok_or_else(|| service.no_such_action(action))?;
    let is_taken = |name: &&str| OF_ALL.contains(name) || taken.split_ascii_whitespace().any(|taken| taken == *name);
    match params.names().find(|name| !is_taken(name)) {
        Some(name) => Err(IamError::NotImplemented(name.to_owned())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{IamError, Params, Service, check};

    fn of(service: Service, form: &str) -> Result<(), IamError> {
        let params = Params::parse(form.as_bytes()).unwrap();
        check(service, params.get("Action").unwrap(), &params)
    }

    #[test]
    fn an_action_takes_its_parameters_and_no_others() {
        assert_eq!(of(Service::Iam, "Action=TagUser&Version=2010-05-08&UserName=a&Tags.member.1.Key=b"), Ok(()));
        let refused = |name: &str| Err(IamError::NotImplemented(name.to_owned()));
        assert_eq!(
            of(Service::Iam, "Action=CreateUser&UserName=a&PermissionsBoundary=b"),
            refused("PermissionsBoundary")
        );
        assert_eq!(of(Service::Iam, "Action=GetAccountSummary&Colour=b"), refused("Colour"));
        assert_eq!(of(Service::Sts, "Action=AssumeRole&TransitiveTagKeys.member.1=a"), refused("TransitiveTagKeys"));
    }

    #[test]
    fn an_action_is_one_of_its_service_and_version() {
        for (service, form) in [
            (Service::Iam, "Action=AssumeRole"),
            (Service::Sts, "Action=ListUsers"),
            (Service::Iam, "Action=ListUsers&Version=2011-06-15"),
            (Service::Sts, "Action=GetCallerIdentity&Version="),
        ] {
            assert!(matches!(of(service, form), Err(IamError::InvalidAction(_))), "{form}");
        }
    }
}

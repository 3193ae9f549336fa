//! The one decision: whether what is asked may be done, out of what policies say, what lists grant and who owns it. Pure;
//! who gathers the grounds is [`super::Access`].
//!
//! See "How Amazon S3 authorizes a request" in the S3 user guide and "Policy evaluation logic" in the IAM user guide.

use annulus_common::object::UserId;
use annulus_common::policy::Verdict;

/// All that the decision stands on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Grounds {
    /// The account that asks; a service has none.
    pub(super) caller: Option<UserId>,
    /// The account that owns the bucket.
    pub(super) bucket_owner: UserId,
    /// The account that owns what is asked for: the bucket's owner, or the object's.
    pub(super) owner: UserId,
    /// What the bucket's policy says.
    pub(super) bucket_policy: Verdict,
    /// Whether the bucket's policy allows nothing to other accounts, because it is public and the bucket's public access
    /// block restricts those.
    pub(super) restricted: bool,
    /// Whether a forbidding bucket policy does not bind the account that owns the bucket: so that it can be mended.
    pub(super) mendable: bool,
    /// Whether the access control list grants it.
    pub(super) granted: bool,
    /// What the policies of the caller's account say about the user or role that asks. An account itself has none, and may do
    /// what its resources' owners let it do.
    pub(super) identity: Option<Verdict>,
    /// What the policies that a session was opened with say: it may do nothing beyond them.
    pub(super) session: Option<Verdict>,
}

/// Whether it may be done.
pub(super) fn decide(grounds: &Grounds) -> bool {
    if is_forbidden(grounds) {
        return false;
    }
    let insider = grounds.caller == Some(grounds.bucket_owner);
    // A bucket's policy opens what its owner owns, and nobody else's objects.
    let policy_applies = grounds.owner == grounds.bucket_owner && (insider || !grounds.restricted);
    let policy = if policy_applies { grounds.bucket_policy } else { Verdict::Silent };
    let by_resource = grounds.caller == Some(grounds.owner) || grounds.granted || policy.allows();
    match grounds.identity {
        None | Some(Verdict::Allow | Verdict::AllowAccount | Verdict::AllowSession) => by_resource,
        // Inside an account a resource may name a user by itself; across accounts both sides must agree.
        Some(Verdict::Silent) => insider && matches!(policy, Verdict::Allow | Verdict::AllowSession),
        Some(Verdict::Deny) => false,
    }
}

fn is_forbidden(grounds: &Grounds) -> bool {
    let own_root = grounds.caller == Some(grounds.bucket_owner) && grounds.identity.is_none();
    let by_bucket = grounds.bucket_policy == Verdict::Deny && !(grounds.mendable && own_root);
    // A resource that names the very session opens itself to it, whatever the session was opened with.
    let named = grounds.bucket_policy == Verdict::AllowSession;
    let beyond_session =
        grounds.session.is_some_and(|session| session == Verdict::Deny || !(session.allows() || named));
    by_bucket || grounds.identity == Some(Verdict::Deny) || beyond_session
}

#[cfg(test)]
mod tests {
    use annulus_common::object::UserId;
    use annulus_common::policy::Verdict;

    use super::{Grounds, decide};

    const OWNER: UserId = UserId([1; 32]);
    const OTHER: UserId = UserId([2; 32]);

    /// Nothing speaks for it.
    fn grounds(caller: UserId) -> Grounds {
        Grounds {
            caller: Some(caller),
            bucket_owner: OWNER,
            owner: OWNER,
            bucket_policy: Verdict::Silent,
            restricted: false,
            mendable: false,
            granted: false,
            identity: None,
            session: None,
        }
    }

    #[test]
    fn what_nobody_allows_is_the_owners_alone() {
        assert!(decide(&grounds(OWNER)));
        assert!(!decide(&grounds(OTHER)));
        assert!(!decide(&grounds(UserId::ANONYMOUS)));
        assert!(!decide(&Grounds { caller: None, ..grounds(OTHER) }));
    }

    #[test]
    fn a_grant_or_a_policy_opens_it() {
        for caller in [OTHER, UserId::ANONYMOUS] {
            assert!(decide(&Grounds { granted: true, ..grounds(caller) }));
            for bucket_policy in [Verdict::Allow, Verdict::AllowAccount] {
                assert!(decide(&Grounds { bucket_policy, ..grounds(caller) }));
            }
        }
        assert!(decide(&Grounds { caller: None, bucket_policy: Verdict::Allow, ..grounds(OTHER) }));
    }

    #[test]
    fn a_policy_that_forbids_binds_everybody() {
        for caller in [OWNER, OTHER, UserId::ANONYMOUS] {
            let forbidden = Grounds { granted: true, bucket_policy: Verdict::Deny, ..grounds(caller) };
            assert!(!decide(&forbidden));
            assert_eq!(decide(&Grounds { mendable: true, ..forbidden }), caller == OWNER);
            let user = Grounds { mendable: true, identity: Some(Verdict::Allow), ..forbidden };
            assert!(!decide(&user), "only the account itself can mend a policy that forbids it");
        }
    }

    #[test]
    fn a_restricted_policy_opens_nothing_to_others() {
        let public = |caller| Grounds { restricted: true, bucket_policy: Verdict::Allow, ..grounds(caller) };
        assert!(!decide(&public(OTHER)));
        assert!(!decide(&public(UserId::ANONYMOUS)));
        assert!(decide(&Grounds { granted: true, ..public(OTHER) }), "lists are not restricted by it");
        assert!(decide(&Grounds { identity: Some(Verdict::Silent), ..public(OWNER) }));
    }

    #[test]
    fn a_buckets_policy_does_not_open_what_others_own() {
        let theirs = Grounds { owner: OTHER, bucket_policy: Verdict::Allow, ..grounds(UserId::ANONYMOUS) };
        assert!(!decide(&theirs));
        assert!(!decide(&Grounds { caller: Some(OWNER), ..theirs }));
        assert!(decide(&Grounds { caller: Some(OTHER), ..theirs }));
        assert!(!decide(&Grounds { caller: Some(OTHER), bucket_policy: Verdict::Deny, ..theirs }));
    }

    #[test]
    fn a_user_needs_its_account_and_the_resource() {
        let user = |caller, identity| Grounds { identity: Some(identity), ..grounds(caller) };
        assert!(decide(&user(OWNER, Verdict::Allow)));
        assert!(!decide(&user(OWNER, Verdict::Silent)), "an account's resources are not its users'");
        assert!(!decide(&user(OTHER, Verdict::Allow)), "the resource's side does not agree");
        assert!(decide(&Grounds { bucket_policy: Verdict::AllowAccount, ..user(OTHER, Verdict::Allow) }));
        assert!(decide(&Grounds { granted: true, ..user(OTHER, Verdict::Allow) }));
        assert!(!decide(&Grounds { bucket_policy: Verdict::Allow, ..user(OTHER, Verdict::Silent) }));
        assert!(decide(&Grounds { bucket_policy: Verdict::Allow, ..user(OWNER, Verdict::Silent) }));
        assert!(!decide(&Grounds { bucket_policy: Verdict::AllowAccount, ..user(OWNER, Verdict::Silent) }));
        assert!(!decide(&Grounds { granted: true, ..user(OWNER, Verdict::Deny) }));
    }

    #[test]
    fn a_session_may_nothing_beyond_its_policies() {
        let session = |session| Grounds { session: Some(session), granted: true, ..grounds(OWNER) };
        assert!(decide(&session(Verdict::Allow)));
        assert!(!decide(&session(Verdict::Silent)));
        assert!(!decide(&session(Verdict::Deny)));
        let named = |verdict| Grounds { bucket_policy: Verdict::AllowSession, ..session(verdict) };
        assert!(decide(&named(Verdict::Silent)), "the resource names the session itself");
        assert!(!decide(&named(Verdict::Deny)));
        assert!(decide(&Grounds { identity: Some(Verdict::Silent), ..named(Verdict::Silent) }));
    }
}

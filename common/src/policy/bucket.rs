//! The policy of a bucket as it is kept: the text that its owner sent, whom it named then, and what it means, read once.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::bound::{Ids, Whom, bind, shown};
use super::document::{Owner, Policy};
use super::error::PolicyError;
use super::{Question, Verdict};

/// A bucket's policy. Its text and whom it names are stored and sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BucketPolicy {
    text: String,
    ids: Ids,
    policy: Policy,
    public: bool,
}

impl BucketPolicy {
    /// The policy that `text` writes for the bucket of that name. Of users and roles it is about nobody yet.
    pub fn parse(text: String, bucket: &str) -> Result<Self, PolicyError> {
        let policy = Policy::parse(&text, Owner::Bucket(Some(bucket)))?;
        let public = policy.is_public();
        Ok(Self { text, ids: Ids::new(), policy, public })
    }

    /// The same policy, about those who have the names in it, as `whom` knows them.
    pub fn about(mut self, whom: impl Fn(&str) -> Whom) -> Result<Self, PolicyError> {
        self.ids = bind(&mut self.policy, whom)?;
        Ok(self)
    }

    /// As it was sent, but for those who are called otherwise now: `name_of` says how, by the old name and the id.
    pub fn shown(&self, name_of: impl Fn(&str, &str) -> String) -> String {
        shown(&self.text, &self.ids, name_of)
    }

    /// What it says about a request.
    pub fn judge(&self, question: &Question<'_>) -> Verdict {
        self.policy.judge(question)
    }

    /// Whether a statement allows it that asks for one of these keys, and so was not made for whatever the keys might say.
    pub fn allows_by_key(&self, question: &Question<'_>, keys: &[&str]) -> bool {
        let by_key = self.policy.statements.iter().filter(|statement| statement.asks_for(keys));
        by_key.map(|statement| statement.judge(question)).max().is_some_and(Verdict::allows)
    }

    /// Whether it is what S3 calls public.
    pub fn is_public(&self) -> bool {
        self.public
    }
}

impl Serialize for BucketPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.text, &self.ids).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for BucketPolicy {
    /// The text was judged when it was set. Should this version not understand it all the same, it forbids everything, but to
    /// its owner to mend it: a map that cannot be read would stop the cluster, and a policy that is skipped would open it.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (text, ids) = <(String, Ids)>::deserialize(deserializer)?;
        let mut policy = Policy::parse(&text, Owner::Bucket(None)).unwrap_or_else(|_| Policy::forbidding());
        policy.bind(&ids);
        let public = policy.is_public();
        Ok(Self { text, ids, policy, public })
    }
}

/// What of public access a bucket's owner rules out: see "Blocking public access to your Amazon S3 storage" in the S3 user
/// guide.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PublicAccessBlock {
    /// Lists that grant something to everybody are refused from now on.
    pub block_public_acls: bool,
    /// What lists grant to everybody counts no more.
    pub ignore_public_acls: bool,
    /// Policies that are public are refused from now on.
    pub block_public_policy: bool,
    /// A policy that is public allows nothing to other accounts.
    pub restrict_public_buckets: bool,
}

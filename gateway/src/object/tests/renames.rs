//! Renaming over shards, which takes more than one step.

use std::time::Duration;

use annulus_common::condition::Conditions;
use annulus_common::map::ClusterMap;
use futures::FutureExt;

use super::{Bench, bytes_of};
use crate::client::testing::OWNER;
use crate::object::RenameObject;

/// Longer than any copy takes.
const WAIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_rename_goes_on_without_its_caller() {
    let bench = Bench::new().await;
    let bytes = bytes_of(9 << 20);
    bench.put_bytes("from", &bytes).await.unwrap();
    let shard = |key: &str| ClusterMap::key_path(&bench.bucket, key).shard;
    let to = (0..).map(|number| format!("to-{number}")).find(|to| shard(to) != shard("from")).unwrap();
    let rename = RenameObject {
        bucket: bench.bucket.clone(),
        from: "from".to_owned(),
        found: bench.get("from").await.unwrap(),
        to: to.clone(),
        conditions: Conditions::default(),
        caller: OWNER,
        request: None,
    };
    assert!(bench.objects.rename(rename).now_or_never().is_none(), "the caller leaves before it is over");
    let gone = async {
        while bench.exists("from").await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT, gone).await.expect("the object does not stay at its old key");
    let version = bench.get(&to).await.unwrap();
    assert!(bench.read(&version, 0..bytes.len() as u64).await.unwrap() == bytes);
}

//! The admin API: accounts, keys and buckets, for administrators alone, in force everywhere once it has answered.

use annulus_gateway::admin::client::AdminError;
use annulus_gateway::admin::model::{
    BASE, BucketReport, ClusterStatus, KeyReport, NewBucket, NewKey, NewUser, UserReport,
};
use annulus_tests::client::S3;
use annulus_tests::cluster::{Cluster, Spec, shared};
use annulus_tests::wait;

use crate::iam::{iam, iam_refused};
use crate::{fresh_name, new_bucket};

fn new_user(name: &str) -> NewUser {
    NewUser { name: name.to_owned(), display_name: None, email: None, admin: false }
}

fn code<T>(answer: Result<T, AdminError>) -> String {
    match answer {
        Err(AdminError::Refused { code, .. }) => code,
        Err(other) => panic!("expected a refusal, got {other}"),
        Ok(_) => panic!("expected a refusal"),
    }
}

#[tokio::test]
async fn only_administrators_are_answered() {
    let cluster = shared().await;
    for path in ["/status", "/users", "/keys", "/buckets", "/no-such-call"] {
        let target = format!("{BASE}{path}");
        let nobody = cluster.anonymous().get(&target).send().await;
        assert!([401, 403].contains(&nobody.status.as_u16()), "{path}: {}", nobody.status);
        assert_eq!(cluster.alt().get(&target).send().await.status, 403, "{path}");
        let wrong = S3::new(&cluster.endpoint(0), &cluster.root.access_key, "not-the-secret-of-the-root");
        let wrong = wrong.get(&target).send().await;
        assert!([401, 403].contains(&wrong.status.as_u16()), "{path}: {}", wrong.status);
        assert!(!wrong.text().contains("secret-of"), "an answer tells no secret");
    }
    let made = cluster.alt().post(&format!("{BASE}/users")).body("{\"name\":\"intruder\"}").send().await;
    assert_eq!(made.status, 403);
    let users: Vec<UserReport> = cluster.admin(1).get("/users").await.expect("an administrator is answered");
    assert!(users.iter().all(|user| user.name != "intruder"));
}

#[tokio::test]
async fn an_account_lives_and_ends_everywhere_at_once() {
    let cluster = shared().await;
    let (here, there) = (cluster.admin(0), cluster.admin(1));
    let name = fresh_name("user");
    let user: UserReport = here.post("/users", &new_user(&name)).await.expect("it is made");
    assert_eq!((user.name.as_str(), user.admin), (name.as_str(), false));
    assert_eq!(code(there.post::<UserReport>("/users", &new_user(&name)).await), "UserExists");
    let key: KeyReport = there.post("/keys", &NewKey { user: name.clone() }).await.expect("it is made");
    let secret = key.secret_key.clone().expect("a new key is told with its secret");
    let keys: Vec<KeyReport> = here.get("/keys").await.expect("keys are listed");
    let listed = keys.iter().find(|listed| listed.access_key == key.access_key).expect("the new one among them");
    assert_eq!(listed.secret_key, None, "a secret is told once");

    let clients = [0, 1].map(|gateway| S3::new(&cluster.endpoint(gateway), &key.access_key, &secret));
    let bucket = new_bucket(&clients[0]).await;
    clients[1].get(&bucket).ok().await;
    assert_eq!(code(here.delete(&format!("/users/{name}")).await), "UserOwnsBuckets");
    clients[0].delete(&bucket).ok().await;
    there.delete(&format!("/keys/{}", key.access_key)).await.expect("it is revoked");
    for client in &clients {
        client.get("/").refused(403, "InvalidAccessKeyId").await;
    }
    here.delete(&format!("/users/{name}")).await.expect("it is deleted");
    assert_eq!(code(there.post::<KeyReport>("/keys", &NewKey { user: name }).await), "NoSuchUser");
}

#[tokio::test]
async fn the_last_administrator_stays() {
    let cluster = shared().await;
    let admin = cluster.admin(0);
    let users: Vec<UserReport> = admin.get("/users").await.expect("users are listed");
    let admins: Vec<&UserReport> = users.iter().filter(|user| user.admin).collect();
    assert_eq!(admins.len(), 1);
    // It owns buckets of other tests or is the last one; it stays either way.
    let refused = code(admin.delete(&format!("/users/{}", admins[0].name)).await);
    assert!(["LastAdmin", "UserOwnsBuckets"].contains(&refused.as_str()), "{refused}");
}

#[tokio::test]
async fn the_last_administrators_last_key_stays() {
    let spec = Spec { nodes: 1, gateways: 1, replication_factor: 1, ..Spec::default() };
    let cluster = Cluster::start(spec).await;
    let (admin, s3) = (cluster.admin(0), cluster.s3(0));
    let first = format!("/keys/{}", cluster.root.access_key);
    let deactivation = [("AccessKeyId", cluster.root.access_key.as_str()), ("Status", "Inactive")];
    assert_eq!(code(admin.delete(&first).await), "LastAdmin");
    iam_refused(&s3, "DeleteAccessKey", &deactivation[..1], 409, "DeleteConflict").await;
    iam_refused(&s3, "UpdateAccessKey", &deactivation, 409, "DeleteConflict").await;
    let users: Vec<UserReport> = admin.get("/users").await.expect("users are listed");
    let user = users.into_iter().find(|user| user.admin).expect("there is an administrator").name;
    let second: KeyReport = admin.post("/keys", &NewKey { user }).await.expect("it gets another key");
    iam(&s3, "UpdateAccessKey", &[("AccessKeyId", &second.access_key), ("Status", "Inactive")]).await;
    assert_eq!(code(admin.delete(&first).await), "LastAdmin");
    iam(&s3, "UpdateAccessKey", &[("AccessKeyId", &second.access_key), ("Status", "Active")]).await;
    admin.delete(&first).await.expect("there is another");
}

#[tokio::test]
async fn buckets_are_made_for_others() {
    let cluster = shared().await;
    let admin = cluster.admin(0);
    let name = fresh_name("given");
    let new = NewBucket { name: name.clone(), owner: Some("alt".to_owned()) };
    let bucket: BucketReport = admin.post("/buckets", &new).await.expect("it is made");
    assert_eq!(bucket.owner, "alt");
    cluster.alt().put(&format!("/{name}/k")).body("x").ok().await;
    assert_eq!(code(admin.delete(&format!("/buckets/{name}")).await), "BucketNotEmpty");
    cluster.alt().delete(&format!("/{name}/k")).ok().await;
    admin.delete(&format!("/buckets/{name}")).await.expect("it is empty now");
    assert_eq!(code(admin.delete(&format!("/buckets/{name}")).await), "NoSuchBucket");
    let outside = NewBucket { name: "Not_A_Bucket".to_owned(), owner: None };
    assert!(admin.post::<BucketReport>("/buckets", &outside).await.is_err());
}

#[tokio::test]
async fn the_status_is_that_of_a_healthy_cluster() {
    let cluster = shared().await;
    for gateway in [0, 1] {
        // Others write meanwhile, and for a moment a copy may be missing.
        let status = wait::until_within(3 * wait::PATIENCE, "the cluster is healthy", async || {
            let status: ClusterStatus = cluster.admin(gateway).get("/status").await.ok()?;
            status.healthy.then_some(status)
        })
        .await;
        assert_eq!((status.nodes.len(), status.replication_factor), (3, 3));
        assert!(status.nodes.iter().all(|node| node.up));
        assert!(status.problems.is_empty());
        assert_eq!(status.redundancy.node_failures_tolerated, 1);
    }
}

#[tokio::test]
async fn what_is_no_call_is_refused() {
    let cluster = shared().await;
    let root = cluster.s3(0);
    let bad = [
        (root.post(&format!("{BASE}/users")).body("no json"), 400),
        (root.post(&format!("{BASE}/users")).body("{\"nmae\":\"x\"}"), 400),
        (root.post(&format!("{BASE}/users")).body("{\"name\":\"\"}"), 400),
        (root.post(&format!("{BASE}/users")).body(vec![b' '; 100_000]), 400),
        (root.get(&format!("{BASE}/no-such-call")), 404),
    ];
    for (call, status) in bad {
        let reply = call.send().await;
        assert_eq!(reply.status, status, "{}", reply.text());
        assert_eq!(reply.header("content-type"), Some("application/json"));
    }
}

//! Races: of many writers who say what must hold, exactly one wins, whichever gateway each of them asks.

use annulus_tests::client::S3;
use annulus_tests::cluster::shared;
use futures::future::join_all;

use crate::{content, etag, new_bucket};

const WRITERS: usize = 50;

const ROUNDS: usize = 5;

/// Lets all writers go at once, and returns who was acknowledged. All others must have been refused by the condition.
async fn race(gateways: &[S3; 2], target: &str, header: &'static str, value: &str, size: usize) -> Vec<usize> {
    let puts = (0..WRITERS).map(|writer| {
        let body = content(size, writer as u64);
        gateways[writer % 2].put(target).header(header, value).body(body).send()
    });
    let mut winners = Vec::new();
    for (writer, reply) in join_all(puts).await.into_iter().enumerate() {
        match (reply.status.as_u16(), reply.code().as_deref()) {
            (200, _) => winners.push(writer),
            (412, Some("PreconditionFailed")) => {}
            _ => panic!("writer {writer}: {} {}", reply.status, reply.text()),
        }
    }
    winners
}

async fn one_winner_each_round(size: usize) {
    let cluster = shared().await;
    let gateways = [cluster.s3(0), cluster.s3(1)];
    let bucket = new_bucket(&gateways[0]).await;
    for round in 0..ROUNDS {
        let target = format!("{bucket}/{round}");
        let made = race(&gateways, &target, "if-none-match", "*", size).await;
        assert_eq!(made.len(), 1, "round {round}: {made:?}");
        let stored = gateways[round % 2].get(&target).ok().await;
        assert!(stored.body == content(size, made[0] as u64), "the winner's bytes are there");
        // All replace what the winner made; whoever wins changes the tag, so that nobody else can.
        let tag = stored.header("etag").expect("an object has a tag").to_owned();
        let replaced = race(&gateways, &target, "if-match", &tag, size).await;
        // One of them writes the very bytes that are there: its tag would be the same, and it may win beside another.
        let others: Vec<&usize> = replaced.iter().filter(|writer| **writer != made[0]).collect();
        assert!(others.len() == 1, "round {round}: {replaced:?} replaced what {made:?} made");
        let stored = gateways[1].get(&target).ok().await;
        assert_eq!(stored.header("etag"), Some(etag(&content(size, *others[0] as u64)).as_str()));
    }
}

#[tokio::test]
async fn one_of_fifty_writers_wins_with_small_objects() {
    one_winner_each_round(100).await;
}

#[tokio::test]
async fn one_of_fifty_writers_wins_with_chunks() {
    one_winner_each_round(40_000).await;
}

#[tokio::test]
async fn one_of_many_deletions_wins() {
    let cluster = shared().await;
    let gateways = [cluster.s3(0), cluster.s3(1)];
    let target = format!("{}/k", new_bucket(&gateways[0]).await);
    for round in 0..ROUNDS {
        let body = content(100, round as u64);
        gateways[0].put(&target).body(body.clone()).ok().await;
        let tag = etag(&body);
        let deletes = (0..10).map(|number| gateways[number % 2].delete(&target).header("if-match", &tag).send());
        let replies = join_all(deletes).await;
        let won = replies.iter().filter(|reply| reply.status.is_success()).count();
        assert_eq!(won, 1, "round {round}: {:?}", replies.iter().map(|reply| reply.status).collect::<Vec<_>>());
        gateways[1].get(&target).refused(404, "NoSuchKey").await;
    }
}

/// A counter that everybody increments by reading it and writing it back under the tag that was read: no increment is lost.
#[tokio::test]
async fn a_counter_under_conditions_loses_nothing() {
    let cluster = shared().await;
    let bucket = new_bucket(&cluster.s3(0)).await;
    let target = format!("{bucket}/counter");
    cluster.s3(0).put(&target).body("0").ok().await;
    let increments = (0..10).map(|number| {
        let (s3, target) = (cluster.s3(number % 2), target.clone());
        async move {
            loop {
                let read = s3.get(&target).ok().await;
                let tag = read.header("etag").expect("an object has a tag").to_owned();
                let next = read.text().parse::<u32>().expect("it is a number") + 1;
                let written = s3.put(&target).header("if-match", &tag).body(next.to_string()).send().await;
                match written.status.as_u16() {
                    200 => return,
                    412 => {}
                    _ => panic!("{} {}", written.status, written.text()),
                }
            }
        }
    });
    join_all(increments).await;
    assert_eq!(cluster.s3(1).get(&target).ok().await.text(), "10");
}

//! A verified history: a workload that notes what was acknowledged, and checks in the end that it is so.
//!
//! Every worker has keys of its own and one request under way at a time, so the state of each key is known exactly. A
//! mutation whose answer is lost is repeated until it is acknowledged; as the lost one may still take effect at any later
//! time, its key is left alone from then on, and a fresh one takes its place. What reads return in between is checked, too.
//! What is not checked: writers that race for one key, which the tests of conditions do.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::client::{Call, Reply, S3};
use crate::wait;

/// Keys that each worker uses at a time: few enough that they are replaced and deleted all the time.
const KEYS: usize = 12;

/// Inline, one chunk, and every now and then two chunks.
const SIZES: [usize; 3] = [500, 16 << 10, 60_000];
const LARGE_SIZE: usize = (4 << 20) + 1_000;
const STEPS_PER_LARGE: usize = 20;

/// How long a worker waits for an answer before it tries elsewhere, as SDKs do.
const ATTEMPT_WAIT: Duration = Duration::from_secs(20);

/// The pause after a failed attempt: a server that is down refuses at once.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The hash of an object's bytes; `None` is: there is no object.
type State = Option<[u8; 32]>;

/// What is known of each key: the states that it may be in. More than one only after a mutation that was never acknowledged.
pub struct History {
    bucket: String,
    keys: Mutex<BTreeMap<String, Vec<State>>>,
    acknowledged: AtomicUsize,
    written: AtomicUsize,
}

/// Somebody who puts, replaces, reads and deletes keys of its own, one request at a time.
pub struct Worker {
    number: usize,
    steps: usize,
    /// How often each of its keys was given up for a fresh one.
    generations: [usize; KEYS],
    /// Between two requests.
    pause: Duration,
    clients: Vec<S3>,
    history: Arc<History>,
    stop: Arc<AtomicBool>,
}

/// An answer, and whether an earlier attempt was lost on the way to it.
struct Answered {
    reply: Reply,
    lost_before: bool,
}

impl History {
    /// Of a bucket, as a path, that is empty.
    pub fn new(bucket: &str) -> Self {
        Self {
            bucket: bucket.to_owned(),
            keys: Mutex::default(),
            acknowledged: AtomicUsize::new(0),
            written: AtomicUsize::new(0),
        }
    }

    /// Puts and deletes that were acknowledged so far.
    pub fn written(&self) -> usize {
        self.written.load(Ordering::Relaxed)
    }

    /// Requests that were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Reads every key, and asserts that it is in a state that it may be in.
    pub async fn verify(&self, s3: &S3) {
        let keys = self.keys().clone();
        assert!(!keys.is_empty(), "there is something to verify");
        for key in keys.keys() {
            self.check(key, &self.read(s3, key).await);
        }
    }

    /// Reads every key whose state is uncertain: what is read is its state from then on. Only when every process was
    /// killed since, and nothing can be under way any more.
    pub async fn settle(&self, s3: &S3) {
        let keys = self.keys().clone();
        for key in keys.iter().filter(|(_, possible)| possible.len() > 1).map(|(key, _)| key) {
            let state = self.check(key, &self.read(s3, key).await);
            self.keys().insert(key.clone(), vec![state]);
        }
    }

    async fn read(&self, s3: &S3, key: &str) -> Reply {
        let target = self.target(key);
        wait::until("a read is answered", async || {
            let reply = s3.get(&target).try_send_within(ATTEMPT_WAIT).await.ok()?;
            is_final(&reply).then_some(reply)
        })
        .await
    }

    fn target(&self, key: &str) -> String {
        format!("{}/{key}", self.bucket)
    }

    fn keys(&self) -> MutexGuard<'_, BTreeMap<String, Vec<State>>> {
        self.keys.lock().expect("nobody panics while holding it")
    }

    fn begin(&self, key: &str, state: State) {
        self.keys().entry(key.to_owned()).or_insert_with(|| vec![None]).push(state);
    }

    fn acknowledge(&self, key: &str, state: State) {
        self.keys().insert(key.to_owned(), vec![state]);
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        self.written.fetch_add(1, Ordering::Relaxed);
    }

    /// Asserts that what a read returned is a state that the key may be in.
    fn check(&self, key: &str, reply: &Reply) -> State {
        let state = match reply.status.as_u16() {
            200 => Some(Sha256::digest(&reply.body).into()),
            404 => None,
            _ => panic!("GET {key}: {} {}", reply.status, reply.text()),
        };
        let possible = self.keys().get(key).cloned().unwrap_or_else(|| vec![None]);
        let described = |state: &State| state.map_or("nothing".to_owned(), |hash| hex::encode(&hash[..6]));
        let expected: Vec<String> = possible.iter().map(described).collect();
        assert!(possible.contains(&state), "{key} is {}, expected {}", described(&state), expected.join(" or "));
        state
    }
}

impl Worker {
    /// The worker of that number. Its first client is its usual one; it tries the others when that one fails.
    pub fn new(number: usize, clients: Vec<S3>, history: Arc<History>, stop: Arc<AtomicBool>) -> Self {
        Self { number, steps: 0, generations: [0; KEYS], pause: Duration::ZERO, clients, history, stop }
    }

    /// The same, with a pause between two requests.
    pub fn with_pauses(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Works until it is told to stop. What it was doing then may remain uncertain.
    pub async fn work(mut self) {
        while !self.is_stopped() {
            self.steps += 1;
            let slot = self.steps % KEYS;
            let key = format!("{}-{slot}-{}", self.number, self.generations[slot]);
            match (self.steps / KEYS + self.steps) % 5 {
                0 => self.mutate(slot, &key, None).await,
                1 | 2 => self.read(&key).await,
                _ => self.mutate(slot, &key, Some(self.body())).await,
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    async fn mutate(&mut self, slot: usize, key: &str, body: Option<Bytes>) {
        let state = body.as_ref().map(|body| Sha256::digest(body).into());
        self.history.begin(key, state);
        let target = self.history.target(key);
        let answered = self.ask(|s3| match &body {
            Some(body) => s3.put(&target).body(body.clone()),
            None => s3.delete(&target),
        });
        let Some(Answered { reply, lost_before }) = answered.await else { return };
        assert!(reply.status.is_success(), "{key}: {} {}", reply.status, reply.text());
        self.history.acknowledge(key, state);
        if lost_before {
            self.generations[slot] += 1;
        }
    }

    async fn read(&self, key: &str) {
        let target = self.history.target(key);
        if let Some(Answered { reply, .. }) = self.ask(|s3| s3.get(&target)).await {
            self.history.check(key, &reply);
            self.history.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Asks one server after the other until one answers with more than "not now". Nothing when it is told to stop.
    async fn ask<'a>(&'a self, call: impl Fn(&'a S3) -> Call<'a>) -> Option<Answered> {
        let begun = Instant::now();
        let mut lost_before = false;
        for s3 in self.clients.iter().cycle() {
            match call(s3).try_send_within(ATTEMPT_WAIT).await {
                Ok(reply) if is_final(&reply) => return Some(Answered { reply, lost_before }),
                _ if self.is_stopped() => return None,
                _ => lost_before = true,
            }
            assert!(begun.elapsed() < wait::PATIENCE, "errors do not vanish after retries");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        None
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Bytes that no other step writes.
    fn body(&self) -> Bytes {
        let large = self.steps.is_multiple_of(STEPS_PER_LARGE);
        let size = if large { LARGE_SIZE } else { SIZES[self.steps % SIZES.len()] };
        let name = format!("{}/{}/{}/", self.history.bucket, self.number, self.steps);
        let mut body = name.repeat(size / name.len() + 1).into_bytes();
        body.truncate(size);
        body.into()
    }
}

/// Whether an answer is more than "not now".
fn is_final(reply: &Reply) -> bool {
    !reply.status.is_server_error()
}

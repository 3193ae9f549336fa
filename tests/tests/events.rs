//! Events of real processes: what was acknowledged is told, whoever is killed, and to whom is shown nowhere.

use std::collections::BTreeSet;
use std::io::Write as _;

use annulus_tests::certificates::{Authority, Validity};
use annulus_tests::processes::Processes;
use annulus_tests::wait;
use annulus_tests::webhook::Receiver;

const RULES: &str = "<NotificationConfiguration><QueueConfiguration><Queue>arn:aws:sqs:us-east-1:123456789012:orders</Queue>\
                     <Event>s3:ObjectCreated:*</Event></QueueConfiguration></NotificationConfiguration>";

/// Puts of one key each, and of all keys together.
const ROUNDS: usize = 30;
const KEYS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: starts real processes"]
async fn servers_that_are_killed_lose_no_event() {
    let authority = Authority::new("events");
    let receiver = Receiver::start_certified(authority.certify(&["localhost"], Validity::Now));
    let webhooks = format!("orders=https://localhost:{}/hook?secret=of-the-url", receiver.addr().port());
    let mut ca_file = tempfile::NamedTempFile::new().expect("a file can be made");
    ca_file.write_all(authority.pem().as_bytes()).expect("it can be written");
    let settings = [
        ("ANNULUS_WEBHOOKS", webhooks.as_str()),
        ("ANNULUS_WEBHOOK_TOKENS", "orders=of-the-token"),
        ("ANNULUS_WEBHOOK_CA_FILE", ca_file.path().to_str().expect("a path of ASCII")),
    ];
    let mut processes = Processes::start_with(3, 3, &settings).await;
    let s3 = processes.s3(0);
    s3.put("/orders").ok().await;
    s3.put("/orders?notification").body(RULES).ok().await;
    let token = &receiver.posts()[0].headers["authorization"];
    assert_eq!(token, "Bearer of-the-token");
    receiver.answer(503);
    for number in 0..ROUNDS {
        for key in 0..KEYS {
            s3.put(&format!("/orders/{key}")).body(format!("{number}")).ok().await;
        }
    }
    wait::until("it was tried", async || receiver.posts().iter().any(|post| post.status == 503).then_some(())).await;
    processes.kill_all();
    processes.start_all();
    processes.until_all_ready().await;
    receiver.answer(200);
    // And once more amid the delivery, which begins when the claims of the dead have run out.
    wait::until_within(3 * wait::PATIENCE, "some are told", async || {
        (receiver.records("orders").len() >= 5).then_some(())
    })
    .await;
    processes.server(1).kill();
    processes.server(1).start();
    let all_are_told = async || {
        let records = receiver.records("orders");
        let object = |record: &serde_json::Value| {
            let object = &record["s3"]["object"];
            (object["key"].as_str().map(str::to_owned), object["sequencer"].as_str().map(str::to_owned))
        };
        let told: Vec<_> = records.iter().map(object).collect();
        let events: BTreeSet<_> = told.iter().collect();
        // What comes again begins anew with an event that came before, and goes on in the order.
        let ends_with_its_last_put = |number: usize| {
            let name = Some(number.to_string());
            let of_key = || told.iter().filter(|(key, _)| *key == name).map(|(_, sequencer)| sequencer);
            of_key().next_back() == of_key().max()
        };
        (events.len() == ROUNDS * KEYS && (0..KEYS).all(ends_with_its_last_put)).then_some(())
    };
    // What a server had begun to deliver when it died is left to it for half a minute.
    wait::until_within(3 * wait::PATIENCE, "every put is told, the last of each key at last", all_are_told).await;
    for log in processes.logs() {
        assert!(!log.contains("of-the-url") && !log.contains("of-the-token"), "{log}");
    }
}

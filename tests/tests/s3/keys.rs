//! Keys: any text of 1 to 1,024 bytes is a key, and it is that text and no other.

use annulus_tests::client::encode;
use annulus_tests::cluster::shared;

use crate::new_bucket;

#[tokio::test]
async fn odd_keys_are_keys() {
    let cluster = shared().await;
    let (here, there) = (cluster.s3(0), cluster.s3(1));
    let bucket = new_bucket(&here).await;
    let longest = "k".repeat(1_024);
    let keys = [
        "a b",
        " leading and trailing ",
        "a+b",
        "100%",
        "%41",
        "a%2Fb",
        "ü/日本/🦀",
        "..",
        ".",
        "../../etc/passwd",
        "a/./b/../c",
        "a//b",
        "/leading",
        "//two",
        "trailing/",
        "a?b=c&d#e",
        "a\\b",
        "<a>&\"'",
        "tab\tand\nnewline\r",
        "\u{1}\u{7f}",
        "e\u{301}",
        "\u{e9}",
        "-",
        "*",
        "~_.-!'()",
        &longest,
    ];
    for key in keys {
        let target = format!("{bucket}/{}", encode(key));
        here.put(&target).body(key.to_owned()).ok().await;
    }
    for key in keys {
        let got = there.get(&format!("{bucket}/{}", encode(key))).ok().await;
        assert_eq!(got.text(), key, "each key has its own object");
    }
    let listed = here.get(&format!("{bucket}?list-type=2&encoding-type=url")).ok().await;
    let mut expected: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    expected.sort();
    let decoded: Vec<String> = listed.elements("Key").iter().map(|key| decode(key)).collect();
    assert_eq!(decoded, expected, "in the order of their bytes");
    for key in keys {
        there.delete(&format!("{bucket}/{}", encode(key))).ok().await;
    }
    here.delete(&bucket).ok().await;
}

#[tokio::test]
async fn a_key_of_1025_bytes_is_too_long() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let ascii = "k".repeat(1_025);
    // 342 characters of three bytes each: bytes count, not characters.
    let wide = "日".repeat(342);
    for key in [ascii, wide] {
        s3.put(&format!("{bucket}/{}", encode(key))).body("x").refused(400, "KeyTooLongError").await;
    }
    s3.delete(&bucket).ok().await;
}

#[tokio::test]
async fn a_key_that_is_not_utf8_is_refused() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    for bytes in [&b"\xff"[..], b"a\xc3(", b"\xed\xa0\x80"] {
        let put = s3.put(&format!("{bucket}/{}", encode(bytes))).body("x").send().await;
        assert_eq!(put.status, 400, "{bytes:?}: {}", put.text());
        let code = put.code().expect("S3's errors have a code");
        assert!(["InvalidURI", "InvalidArgument"].contains(&code.as_str()), "{code}");
    }
    s3.delete(&bucket).ok().await;
}

#[tokio::test]
async fn a_name_that_xml_cannot_carry_is_listed_encoded() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    s3.put(&format!("{bucket}/{}", encode("a\u{1}b"))).body("x").ok().await;
    let listed = s3.get(&format!("{bucket}?list-type=2")).ok().await;
    assert_eq!(listed.elements("Key"), ["a%01b"]);
    assert_eq!(listed.element("EncodingType").as_deref(), Some("url"));
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8().expect("keys are text").into_owned()
}

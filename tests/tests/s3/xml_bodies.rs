//! XML documents mean to Annulus what they mean to S3: text however it is written, numbers to their end, and no element that
//! nobody reads.

use annulus_tests::client::{Call, S3};
use annulus_tests::cluster::shared;

use crate::{assert_absent, fresh_name, new_bucket};

async fn lockable_bucket(s3: &S3) -> String {
    let bucket = format!("/{}", fresh_name("lockable"));
    s3.put(&bucket).header("x-amz-bucket-object-lock-enabled", "true").ok().await;
    bucket
}

#[tokio::test]
async fn text_in_sections_counts() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let lifecycle = format!("{bucket}?lifecycle");
    let rule = "<LifecycleConfiguration><Rule><ID>a</ID><Filter><Prefix><![CDATA[tmp/]]></Prefix></Filter>\
                <Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>";
    s3.put(&lifecycle).body(rule).with_md5().ok().await;
    let kept = s3.get(&lifecycle).ok().await;
    assert_eq!(kept.element("Prefix").as_deref(), Some("tmp/"), "{}", kept.text());
    for key in ["a", "a%26b"] {
        s3.put(&format!("{bucket}/{key}")).body("x").ok().await;
    }
    let delete = "<Delete><Object><Key>a<![CDATA[&b]]></Key></Object></Delete>";
    s3.post(&format!("{bucket}?delete")).body(delete).with_md5().ok().await;
    assert_absent(&s3, &format!("{bucket}/a%26b")).await;
    s3.get(&format!("{bucket}/a")).ok().await;
}

#[tokio::test]
async fn characters_may_be_numbers() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let keys = ["%F0%9F%98%80", "a%0Db", "a%22%27%3C%3E%26b"];
    for key in keys {
        s3.put(&format!("{bucket}/{key}")).body("x").ok().await;
    }
    let delete = "<Delete><Object><Key>&#x1F600;</Key></Object><Object><Key>a&#13;b</Key></Object>\
                  <Object><Key>a&quot;&apos;&lt;&gt;&amp;b</Key></Object></Delete>";
    let reply = s3.post(&format!("{bucket}?delete")).body(delete).with_md5().ok().await;
    assert_eq!(reply.elements("Deleted").len(), keys.len(), "{}", reply.text());
    for key in keys {
        assert_absent(&s3, &format!("{bucket}/{key}")).await;
    }
}

#[tokio::test]
async fn who_does_not_sign_is_read_the_same_way() {
    let cluster = shared().await;
    let (s3, anybody) = (cluster.s3(0), cluster.anonymous());
    let bucket = new_bucket(&s3).await;
    let target = format!("{bucket}/k?tagging");
    s3.put(&format!("{bucket}/k")).body("x").ok().await;
    let tagging = "<Tagging><TagSet><Tag><Key>a</Key><Value>1<![CDATA[2]]></Value></Tag></TagSet></Tagging>";
    let malformed = tagging.replace("Tag>", "Tags>");
    // Who may not is told so, whatever the document is.
    anybody.put(&target).body(tagging).refused(403, "AccessDenied").await;
    anybody.put(&format!("{bucket}?tagging")).body(malformed.clone()).refused(403, "AccessDenied").await;
    let policy = format!(
        r#"{{"Statement":[{{"Effect":"Allow","Principal":"*","Action":"s3:PutObjectTagging","Resource":"arn:aws:s3:::{}/*"}}]}}"#,
        bucket.trim_start_matches('/')
    );
    s3.put(&format!("{bucket}?policy")).body(policy).ok().await;
    anybody.put(&target).body(tagging).ok().await;
    assert_eq!(s3.get(&target).ok().await.element("Value").as_deref(), Some("12"));
    anybody.put(&target).body(malformed).refused(400, "MalformedXML").await;
    let wrong = anybody.put(&target).header("content-md5", "N7UdGUp1E+RbVvZSTy1R8g==").body(tagging);
    wrong.refused(400, "BadDigest").await;
    let huge = format!("<!--{}-->{tagging}", "x".repeat(2 << 20));
    anybody.put(&target).body(huge).refused(400, "MaxMessageLengthExceeded").await;
}

/// What would be stored without the element that the client meant, or with another number.
#[tokio::test]
async fn what_nobody_would_read_is_refused() {
    let s3 = shared().await.s3(0);
    let bucket = lockable_bucket(&s3).await;
    let rule = |inner: &str| {
        format!(
            "<LifecycleConfiguration><Rule><Filter><Prefix>x</Prefix></Filter><Status>Enabled</Status>{inner}</Rule></LifecycleConfiguration>"
        )
    };
    let retention = |inner: &str| {
        format!(
            "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>{inner}</ObjectLockConfiguration>"
        )
    };
    let cors = |inner: &str| {
        format!(
            "<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin>{inner}</CORSRule></CORSConfiguration>"
        )
    };
    let table = [
        (
            "publicAccessBlock",
            "<PublicAccessBlockConfiguration><BlockPublicPolicies>true</BlockPublicPolicies></PublicAccessBlockConfiguration>"
                .to_owned(),
        ),
        (
            "object-lock",
            retention(
                "<Rules><DefaultRetention><Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rules>",
            ),
        ),
        (
            "object-lock",
            retention("<Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>3O</Days></DefaultRetention></Rule>"),
        ),
        ("tagging", "<Tagging><TagSet><Tags><Key>a</Key><Value>b</Value></Tags></TagSet></Tagging>".to_owned()),
        ("versioning", "<VersioningConfiguration><status>Enabled</status></VersioningConfiguration>".to_owned()),
        ("logging", "<BucketLoggingStatus><LoggingEnable/></BucketLoggingStatus>".to_owned()),
        (
            "notification",
            "<NotificationConfiguration><TopicConfigurations/></NotificationConfiguration>".to_owned(),
        ),
        ("lifecycle", rule("<Expiration><Days>3O</Days></Expiration>")),
        ("lifecycle", rule("<Expiration><Days>3</Days></Expiration>30")),
        ("lifecycle", rule("<Expiration><Days>3</Days></Expiration><Unheard>1</Unheard>")),
        (
            "lifecycle",
            rule("<NoncurrentVersionExpiration><NoncurrentDays>1e3</NoncurrentDays></NoncurrentVersionExpiration>"),
        ),
        ("cors", cors("<MaxAgeSeconds>30s</MaxAgeSeconds>")),
        ("delete", "<Delete><Object><Key>k</Key></Object><Quit>true</Quit></Delete>".to_owned()),
        ("delete", "<Delete><Object><Key>k</Key><Size>1x</Size></Object></Delete>".to_owned()),
        ("delete", "<Delete><Object><Key>k</Key></Object></Delete><Delete/>".to_owned()),
    ];
    let ask = |query: &str, body: String| -> Call<'_> {
        let target = format!("{bucket}?{query}");
        let call = if query == "delete" { s3.post(&target) } else { s3.put(&target) };
        call.body(body).with_md5()
    };
    s3.put(&format!("{bucket}/k")).body("x").ok().await;
    for (query, body) in table {
        let reply = ask(query, body.clone()).send().await;
        let refused = (reply.status.as_u16(), reply.code());
        assert_eq!(refused, (400, Some("MalformedXML".to_owned())), "{query} {body}: {}", reply.text());
    }
    s3.get(&format!("{bucket}/k")).ok().await;
    // The same with nothing wrong in them, or the test would show nothing.
    for (query, body) in [
        ("publicAccessBlock", "<PublicAccessBlockConfiguration><BlockPublicPolicy>true</BlockPublicPolicy></PublicAccessBlockConfiguration>".to_owned()),
        ("object-lock", retention("<Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>30</Days></DefaultRetention></Rule>")),
        ("lifecycle", rule("<Expiration><Days>\n30\n</Days></Expiration>")),
        ("cors", cors("<MaxAgeSeconds>30</MaxAgeSeconds>")),
        ("delete", "<Delete><Object><Key>k</Key></Object><Quiet>true</Quiet></Delete>\n".to_owned()),
    ] {
        ask(query, body).ok().await;
    }
    assert_eq!(s3.get(&format!("{bucket}?lifecycle")).ok().await.element("Days").as_deref(), Some("30"));
}

/// What a request asks for is what its query says, however it is written.
#[tokio::test]
async fn a_disguised_query_key_asks_for_the_same() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let bucket = target.trim_end_matches("/k");
    s3.put(&target).body("x").ok().await;
    let delete = "<Delete><Object><Key>k</Key></Object></Delete>";
    for query in ["delete", "%64elete", "d%65lete="] {
        let wrong =
            s3.post(&format!("{bucket}?{query}")).header("content-md5", "N7UdGUp1E+RbVvZSTy1R8g==").body(delete);
        wrong.refused(400, "BadDigest").await;
        s3.get(&target).ok().await;
    }
    let tagging = "<Tagging><TagSet><Tags><Key>a</Key><Value>b</Value></Tags></TagSet></Tagging>";
    for query in ["tagging", "%74agging"] {
        s3.put(&format!("{target}?{query}")).body(tagging).refused(400, "MalformedXML").await;
    }
    s3.post(&format!("{bucket}?%64elete")).body(delete).with_md5().ok().await;
    assert_absent(&s3, &target).await;
}

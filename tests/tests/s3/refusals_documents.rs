//! Documents that are well-formed and make no sense, operation by operation: what S3 says of them, as in `refusals`.

use crate::refusals::{Pairs, Row, Stage};

macro_rules! tagging {
    ($tags:expr) => {
        concat!("<Tagging><TagSet>", $tags, "</TagSet></Tagging>")
    };
}

macro_rules! lifecycle {
    ($rule:expr) => {
        concat!(
            "<LifecycleConfiguration><Rule><ID>r</ID><Filter><Prefix>x</Prefix></Filter><Status>Enabled</Status>",
            $rule,
            "</Rule></LifecycleConfiguration>"
        )
    };
}

macro_rules! cors {
    ($rule:expr) => {
        concat!("<CORSConfiguration><CORSRule>", $rule, "</CORSRule></CORSConfiguration>")
    };
}

macro_rules! policy {
    ($statement:expr) => {
        concat!(r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "#, $statement, "}]}")
    };
}

async fn check(rows: &[Row]) {
    Stage::set().await.check(rows).await;
}

#[tokio::test]
async fn of_tags() {
    const TWICE: &str = tagging!("<Tag><Key>a</Key><Value>1</Value></Tag><Tag><Key>a</Key><Value>2</Value></Tag>");
    const KEY: &str = tagging!("<Tag><Key>a,b</Key><Value>1</Value></Tag>");
    const VALUE: &str = tagging!("<Tag><Key>a</Key><Value>1,2</Value></Tag>");
    const RESERVED: &str = tagging!("<Tag><Key>aws:a</Key><Value>1</Value></Tag>");
    const NO_VALUE: &str = tagging!("<Tag><Key>a</Key></Tag>");
    let key: Pairs = &[("TagKey", "a,b")];
    let value: Pairs = &[("TagKey", "a"), ("TagValue", "1,2")];
    let reserved: Pairs = &[("TagKey", "aws:a")];
    for request in ["PUT {b}?tagging", "PUT {b}/k?tagging"] {
        check(&[
            (request, &[], TWICE, 400, "InvalidTag", &[("TagKey", "a")]),
            (request, &[], KEY, 400, "InvalidTag", key),
            (request, &[], VALUE, 400, "InvalidTag", value),
            (request, &[], RESERVED, 400, "InvalidTag", reserved),
            (request, &[], NO_VALUE, 400, "MalformedXML", &[]),
        ])
        .await;
    }
    for request in ["PUT {b}/k", "POST {b}/k?uploads"] {
        check(&[
            (request, &[("x-amz-tagging", "a%2Cb=1")], "", 400, "InvalidTag", key),
            (request, &[("x-amz-tagging", "a=1%2C2")], "", 400, "InvalidTag", value),
            (request, &[("x-amz-tagging", "aws:a=1")], "", 400, "InvalidTag", reserved),
        ])
        .await;
    }
    let asked: Pairs =
        &[("x-amz-copy-source", "{b}/k"), ("x-amz-tagging-directive", "REPLACE"), ("x-amz-tagging", "aws:a=1")];
    check(&[("PUT {b}/c", asked, "", 400, "InvalidTag", reserved)]).await;
}

#[tokio::test]
async fn of_lifecycles() {
    const REQUEST: &str = "PUT {b}?lifecycle";
    const ARGUMENT: &str = "InvalidArgument";
    let days: Pairs = &[("ArgumentName", "Days"), ("ArgumentValue", "0")];
    check(&[
        (REQUEST, &[], lifecycle!("<Expiration><Days>0</Days></Expiration>"), 400, ARGUMENT, days),
        (
            REQUEST,
            &[],
            lifecycle!("<Expiration><Date>2030-01-01T01:00:00Z</Date></Expiration>"),
            400,
            ARGUMENT,
            &[("ArgumentName", "Date"), ("ArgumentValue", "2030-01-01T01:00:00Z")],
        ),
        (
            REQUEST,
            &[],
            lifecycle!("<NoncurrentVersionExpiration><NoncurrentDays>-1</NoncurrentDays></NoncurrentVersionExpiration>"),
            400,
            ARGUMENT,
            &[("ArgumentName", "NoncurrentDays"), ("ArgumentValue", "-1")],
        ),
        (
            REQUEST,
            &[],
            lifecycle!(
                "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays><NewerNoncurrentVersions>101</NewerNoncurrentVersions></NoncurrentVersionExpiration>"
            ),
            400,
            ARGUMENT,
            &[("ArgumentName", "NewerNoncurrentVersions"), ("ArgumentValue", "101")],
        ),
        (
            REQUEST,
            &[],
            lifecycle!(
                "<AbortIncompleteMultipartUpload><DaysAfterInitiation>0</DaysAfterInitiation></AbortIncompleteMultipartUpload>"
            ),
            400,
            ARGUMENT,
            &[("ArgumentName", "DaysAfterInitiation"), ("ArgumentValue", "0")],
        ),
        (
            REQUEST,
            &[],
            lifecycle!("<Transition><Days>-1</Days><StorageClass>GLACIER</StorageClass></Transition>"),
            400,
            ARGUMENT,
            &[("ArgumentName", "Days"), ("ArgumentValue", "-1")],
        ),
        (
            REQUEST,
            &[],
            "<LifecycleConfiguration><Rule><ID>r</ID><Prefix>a</Prefix><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule><Rule><ID>r</ID><Prefix>b</Prefix><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>",
            400,
            ARGUMENT,
            &[("ArgumentName", "ID"), ("ArgumentValue", "r")],
        ),
        (
            REQUEST,
            &[],
            "<LifecycleConfiguration><Rule><Filter><ObjectSizeLessThan>-1</ObjectSizeLessThan></Filter><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>",
            400,
            ARGUMENT,
            &[("ArgumentName", "ObjectSizeLessThan"), ("ArgumentValue", "-1")],
        ),
        (
            REQUEST,
            &[],
            "<LifecycleConfiguration><Rule><Filter><And><Tag><Key>a</Key><Value>1</Value></Tag><Tag><Key>a</Key><Value>2</Value></Tag></And></Filter><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>",
            400,
            "InvalidRequest",
            &[],
        ),
        (REQUEST, &[], lifecycle!(""), 400, "InvalidRequest", &[]),
        (REQUEST, &[], "<LifecycleConfiguration></LifecycleConfiguration>", 400, "MalformedXML", &[]),
        (
            REQUEST,
            &[],
            lifecycle!("<Expiration><Days>1</Days><Date>2030-01-01T00:00:00Z</Date></Expiration>"),
            400,
            "MalformedXML",
            &[],
        ),
        (
            REQUEST,
            &[("x-amz-transition-default-minimum-object-size", "none")],
            lifecycle!("<Expiration><Days>1</Days></Expiration>"),
            400,
            "InvalidRequest",
            &[],
        ),
    ])
    .await;
}

#[tokio::test]
async fn of_policies() {
    const REQUEST: &str = "PUT {b}?policy";
    const CODE: &str = "MalformedPolicy";
    check(&[
        (REQUEST, &[], "", 400, CODE, &[]),
        (REQUEST, &[], "{}", 400, CODE, &[]),
        (
            REQUEST,
            &[],
            policy!(r#""Principal": {"AWS": "alice"}, "Action": "s3:GetObject", "Resource": "arn:aws:s3:::{bare}/*""#),
            400,
            CODE,
            &[("Detail", r#""AWS" : "alice""#)],
        ),
        (
            REQUEST,
            &[],
            policy!(r#""Principal": "*", "Action": "s3:GetObjects", "Resource": "arn:aws:s3:::{bare}/*""#),
            400,
            CODE,
            &[("Detail", "s3:GetObjects")],
        ),
        (
            REQUEST,
            &[],
            policy!(r#""Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::another/*""#),
            400,
            CODE,
            &[("Detail", "arn:aws:s3:::another/*")],
        ),
        (
            REQUEST,
            &[],
            policy!(
                r#""Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::{bare}/*", "Condition": {"StringEquals": {"aws:Refererr": "a"}}"#
            ),
            400,
            CODE,
            &[("Detail", "aws:Refererr")],
        ),
        ("PUT {n}?policy", &[], "{}", 404, "NoSuchBucket", &[("BucketName", "{none}")]),
    ])
    .await;
}

#[tokio::test]
async fn of_cors_and_websites() {
    let index: Pairs = &[("ArgumentName", "IndexDocument"), ("ArgumentValue", "/index.html")];
    let all: Pairs = &[("ArgumentName", "RedirectAllRequestsTo"), ("ArgumentValue", "not null")];
    check(&[
        (
            "PUT {b}?cors",
            &[],
            cors!("<AllowedMethod>PATCH</AllowedMethod><AllowedOrigin>*</AllowedOrigin>"),
            400,
            "InvalidRequest",
            &[],
        ),
        (
            "PUT {b}?cors",
            &[],
            cors!("<AllowedMethod>GET</AllowedMethod><AllowedOrigin>http://*.*</AllowedOrigin>"),
            400,
            "InvalidRequest",
            &[],
        ),
        (
            "PUT {b}?cors",
            &[],
            cors!(
                "<AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin><ExposeHeader>x-*</ExposeHeader>"
            ),
            400,
            "InvalidRequest",
            &[],
        ),
        ("PUT {b}?cors", &[], cors!("<AllowedMethod>GET</AllowedMethod>"), 400, "MalformedXML", &[]),
        ("PUT {b}?cors", &[], "<CORSConfiguration></CORSConfiguration>", 400, "MalformedXML", &[]),
        (
            "PUT {b}?website",
            &[],
            "<WebsiteConfiguration><IndexDocument><Suffix>/index.html</Suffix></IndexDocument></WebsiteConfiguration>",
            400,
            "InvalidArgument",
            index,
        ),
        (
            "PUT {b}?website",
            &[],
            "<WebsiteConfiguration><RedirectAllRequestsTo><HostName>x</HostName></RedirectAllRequestsTo><IndexDocument><Suffix>i</Suffix></IndexDocument></WebsiteConfiguration>",
            400,
            "InvalidArgument",
            all,
        ),
        (
            "PUT {b}?website",
            &[],
            "<WebsiteConfiguration><RedirectAllRequestsTo><HostName>x</HostName><Protocol>gopher</Protocol></RedirectAllRequestsTo></WebsiteConfiguration>",
            400,
            "InvalidRequest",
            &[],
        ),
    ])
    .await;
}

#[tokio::test]
async fn of_lists_and_owners() {
    const BOTH: Pairs =
        &[("x-amz-acl", "private"), ("x-amz-grant-read", "uri=\"http://acs.amazonaws.com/groups/global/AllUsers\"")];
    let missing: Pairs = &[("MissingHeaderName", "x-amz-acl")];
    for request in ["PUT {b}?acl", "PUT {b}/k?acl"] {
        check(&[
            (request, &[], "", 400, "MissingSecurityHeader", missing),
            (request, BOTH, "", 400, "InvalidRequest", &[]),
            (request, &[], "<AccessControlPolicy></AccessControlPolicy>", 400, "MalformedACLError", &[]),
            (
                request,
                &[("x-amz-acl", "everybody")],
                "",
                400,
                "InvalidArgument",
                &[("ArgumentName", "x-amz-acl"), ("ArgumentValue", "everybody")],
            ),
        ])
        .await;
    }
    check(&[
        (
            "PUT {b}?ownershipControls",
            &[],
            "<OwnershipControls><Rule><ObjectOwnership>Nobody</ObjectOwnership></Rule></OwnershipControls>",
            400,
            "MalformedXML",
            &[],
        ),
        ("PUT {b}?accelerate", &[], "<AccelerateConfiguration></AccelerateConfiguration>", 400, "MalformedXML", &[]),
        (
            "PUT {b}?accelerate",
            &[],
            "<AccelerateConfiguration><Status>Enabled</Status></AccelerateConfiguration>",
            501,
            "NotImplemented",
            &[],
        ),
        (
            "PUT {b}?accelerate",
            &[],
            "<AccelerateConfiguration><Status>Disabled</Status></AccelerateConfiguration>",
            400,
            "MalformedXML",
            &[],
        ),
        (
            "PUT {b}?requestPayment",
            &[],
            "<RequestPaymentConfiguration><Payer>Nobody</Payer></RequestPaymentConfiguration>",
            400,
            "MalformedXML",
            &[],
        ),
        (
            "PUT {b}?publicAccessBlock",
            &[],
            "<PublicAccessBlockConfiguration><BlockPublicAcls>perhaps</BlockPublicAcls></PublicAccessBlockConfiguration>",
            400,
            "MalformedXML",
            &[],
        ),
        (
            "PUT {b}?logging",
            &[],
            "<BucketLoggingStatus><LoggingEnabled><TargetBucket>none-such</TargetBucket><TargetPrefix>x</TargetPrefix></LoggingEnabled></BucketLoggingStatus>",
            400,
            "InvalidTargetBucketForLogging",
            &[("TargetBucket", "none-such")],
        ),
    ])
    .await;
}

#[tokio::test]
async fn of_versions_and_encryption() {
    const ENCRYPTION: &str = "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm><KMSMasterKeyID>k</KMSMasterKeyID></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>";
    let named: Pairs = &[("ArgumentName", "ApplyServerSideEncryptionByDefault")];
    check(&[
        (
            "PUT {b}?versioning",
            &[],
            "<VersioningConfiguration></VersioningConfiguration>",
            400,
            "IllegalVersioningConfigurationException",
            &[],
        ),
        (
            "PUT {b}?versioning",
            &[],
            "<VersioningConfiguration><Status>Perhaps</Status></VersioningConfiguration>",
            400,
            "MalformedXML",
            &[],
        ),
        (
            "PUT {l}?versioning",
            &[],
            "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>",
            409,
            "InvalidBucketState",
            &[],
        ),
        ("PUT {b}?encryption", &[], ENCRYPTION, 400, "InvalidArgument", named),
        ("DELETE {v}", &[], "", 409, "BucketNotEmpty", &[("BucketName", "{v-bare}")]),
    ])
    .await;
}

#[tokio::test]
async fn of_notifications() {
    const NONE: &str = "<NotificationConfiguration><TopicConfiguration><Id>i</Id><Topic>arn:aws:sns:us-east-1:annulus:none</Topic><Event>s3:ObjectCreated:*</Event></TopicConfiguration></NotificationConfiguration>";
    const ARN: &str = "<NotificationConfiguration><QueueConfiguration><Queue>queue</Queue><Event>s3:ObjectCreated:*</Event></QueueConfiguration></NotificationConfiguration>";
    let named: Pairs = &[("ArgumentName", "Arn"), ("ArgumentValue", "queue")];
    check(&[
        ("PUT {b}?notification", &[], ARN, 400, "InvalidArgument", named),
        (
            "PUT {b}?notification",
            &[],
            NONE,
            400,
            "InvalidArgument",
            &[
                ("ArgumentName", "arn:aws:sns:us-east-1:annulus:none"),
                ("ArgumentValue", "The destination topic does not exist"),
            ],
        ),
    ])
    .await;
}

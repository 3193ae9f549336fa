//! One request of each operation that S3 would carry out, to be spoilt by whoever tests what is refused.

use annulus_tests::client::{Call, S3};

use crate::documented::Documented;
use crate::{fresh_name, new_bucket};

/// What is asked for, beside the path. `{bucket}`, `{upload}` and `{tag}` stand for what the [`Stage`] has.
#[derive(Clone, Default)]
pub(crate) struct Request {
    headers: Vec<(&'static str, String)>,
    keys: Vec<(&'static str, String)>,
    body: &'static str,
}

impl Request {
    /// With that header instead of what it may have had there.
    pub(crate) fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(there, _)| *there != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Without that header.
    pub(crate) fn without_header(mut self, name: &'static str) -> Self {
        self.headers.retain(|(there, _)| *there != name);
        self
    }

    /// With that key in the query instead of what it may have had there.
    pub(crate) fn with_key(mut self, key: &'static str, value: &str) -> Self {
        self.keys.retain(|(there, _)| *there != key);
        self.keys.push((key, value.to_owned()));
        self
    }

    /// With that body.
    pub(crate) fn with_body(self, body: &'static str) -> Self {
        Self { body, ..self }
    }
}

/// What the operation needs beside its path.
pub(crate) fn request(operation: &str) -> Request {
    let plain = Request::default().with_body(body(operation));
    match operation {
        "CopyObject" => plain.with_header("x-amz-copy-source", "{bucket}/source"),
        "PutBucketAcl" | "PutObjectAcl" => plain.with_header("x-amz-acl", "private"),
        "GetObjectAttributes" => plain.with_header("x-amz-object-attributes", "ETag"),
        "RenameObject" => plain.with_header("x-amz-rename-source", "{bucket}/source"),
        "ListParts" | "CompleteMultipartUpload" | "AbortMultipartUpload" => plain.with_key("uploadId", "{upload}"),
        "UploadPart" => plain.with_key("partNumber", "1").with_key("uploadId", "{upload}"),
        "UploadPartCopy" => request("UploadPart").with_header("x-amz-copy-source", "{bucket}/source"),
        _ if operation.contains("Annotation") && operation.contains("Object") => plain.with_key("annotationName", "a"),
        _ if operation.ends_with("AnalyticsConfiguration")
            || operation.ends_with("IntelligentTieringConfiguration")
            || operation.ends_with("InventoryConfiguration")
            || operation.ends_with("MetricsConfiguration") =>
        {
            plain.with_key("id", "a")
        }
        _ => plain,
    }
}

fn body(operation: &str) -> &'static str {
    match operation {
        "PutObject" | "UploadPart" => "hello",
        "CompleteMultipartUpload" => {
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
        }
        "DeleteObjects" => "<Delete><Object><Key>k</Key></Object></Delete>",
        "PutBucketAccelerateConfiguration" => {
            "<AccelerateConfiguration><Status>Suspended</Status></AccelerateConfiguration>"
        }
        "PutBucketCors" => {
            "<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin></CORSRule></CORSConfiguration>"
        }
        "PutBucketEncryption" => {
            "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>"
        }
        "PutBucketLifecycleConfiguration" => {
            "<LifecycleConfiguration><Rule><Filter><Prefix>x</Prefix></Filter><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>"
        }
        "PutBucketLogging" => "<BucketLoggingStatus></BucketLoggingStatus>",
        "PutBucketNotificationConfiguration" => "<NotificationConfiguration></NotificationConfiguration>",
        "PutBucketOwnershipControls" => {
            "<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule></OwnershipControls>"
        }
        "PutBucketPolicy" => {
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::{name}/*"}]}"#
        }
        "PutBucketRequestPayment" => {
            "<RequestPaymentConfiguration><Payer>BucketOwner</Payer></RequestPaymentConfiguration>"
        }
        "PutBucketTagging" | "PutObjectTagging" => {
            "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
        }
        "PutBucketVersioning" => "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
        "PutBucketWebsite" => {
            "<WebsiteConfiguration><IndexDocument><Suffix>index.html</Suffix></IndexDocument></WebsiteConfiguration>"
        }
        "PutObjectLegalHold" => "<LegalHold><Status>OFF</Status></LegalHold>",
        "PutObjectLockConfiguration" => {
            "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"
        }
        "PutObjectRetention" => {
            "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2099-01-01T00:00:00Z</RetainUntilDate></Retention>"
        }
        "PutPublicAccessBlock" => {
            "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls></PublicAccessBlockConfiguration>"
        }
        _ => "",
    }
}

/// Whether the operation's body is a document.
pub(crate) fn takes_document(operation: &str) -> bool {
    body(operation).starts_with(['<', '{'])
}

/// Where an operation's requests go.
pub(crate) struct Stage<'a> {
    s3: &'a S3,
    asked: &'a Documented,
    bucket: String,
    upload: String,
    tag: String,
}

impl<'a> Stage<'a> {
    /// A bucket of its own with the object `k`, which another, `source`, and an upload of it stand beside, but for operations
    /// that need a bucket that is empty, or none.
    pub(crate) async fn of(s3: &'a S3, asked: &'a Documented) -> Self {
        let bucket = match asked.operation {
            "CreateBucket" => format!("/{}", fresh_name("made")),
            operation if ["Lock", "Retention", "LegalHold"].iter().any(|what| operation.contains(what)) => {
                let bucket = format!("/{}", fresh_name("locked"));
                s3.put(&bucket).header("x-amz-bucket-object-lock-enabled", "true").ok().await;
                bucket
            }
            _ => new_bucket(s3).await,
        };
        let mut stage = Self::in_bucket(s3, asked, bucket);
        if !matches!(asked.operation, "CreateBucket" | "DeleteBucket") {
            stage.fill().await;
        }
        stage
    }

    /// A bucket that is there. Operations on uploads find none in it.
    pub(crate) fn in_bucket(s3: &'a S3, asked: &'a Documented, bucket: String) -> Self {
        Self { s3, asked, bucket, upload: String::new(), tag: String::new() }
    }

    async fn fill(&mut self) {
        let target = format!("{}/k", self.bucket);
        for target in [&target, &format!("{}/source", self.bucket)] {
            self.s3.put(target).body("hello").ok().await;
        }
        let begun = self.s3.post(&format!("{target}?uploads")).ok().await;
        self.upload = begun.element("UploadId").expect("an upload has an id");
        let part = format!("{target}?partNumber=1&uploadId={}", self.upload);
        let written = self.s3.put(&part).body("hello").ok().await;
        self.tag = written.header("etag").expect("a part has a tag").to_owned();
    }

    /// The request, on its way.
    pub(crate) fn call(&self, request: &Request) -> Call<'a> {
        let pairs = request.keys.iter().map(|(key, value)| format!("{key}={}", self.fit(value)));
        let query: Vec<String> = self.asked.query().map(str::to_owned).into_iter().chain(pairs).collect();
        let target = format!("{}?{}", self.asked.path(&self.bucket, "k"), query.join("&"));
        let call = match self.asked.method {
            "GET" => self.s3.get(&target),
            "HEAD" => self.s3.head(&target),
            "POST" => self.s3.post(&target),
            "DELETE" => self.s3.delete(&target),
            _ => self.s3.put(&target),
        };
        let call = request.headers.iter().fold(call, |call, (name, value)| call.header(name, &self.fit(value)));
        let call = call.body(self.fit(request.body));
        // What locks must come with a checksum.
        let locks = ["PutObjectLegalHold", "PutObjectLockConfiguration", "PutObjectRetention"];
        if locks.contains(&self.asked.operation) { call.with_md5() } else { call }
    }

    fn fit(&self, text: &str) -> String {
        let name = self.bucket.trim_start_matches('/');
        text.replace("{bucket}", &self.bucket)
            .replace("{name}", name)
            .replace("{upload}", &self.upload)
            .replace("{tag}", &self.tag)
    }
}

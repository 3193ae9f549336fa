//! PutBucketCors.

use std::sync::Arc;

use annulus_common::cors::{Cors, CorsMethod, CorsRule, DOCUMENT_BYTES_MAX, RULES_MAX};
use annulus_common::map::BucketChange;
use s3s::dto::{self, PutBucketCorsInput, PutBucketCorsOutput};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::{Gateway, body};

pub(super) async fn put_bucket_cors(
    gateway: &Gateway,
    req: S3Request<PutBucketCorsInput>,
) -> S3Result<S3Response<PutBucketCorsOutput>> {
    body::check_document(&req.headers, DOCUMENT_BYTES_MAX)?;
    let input = req.input;
    let cors = cors(input.cors_configuration.cors_rules)?;
    gateway.configure(&input.bucket, BucketChange::Cors(Some(Arc::new(cors)))).await?;
    Ok(S3Response::new(PutBucketCorsOutput::default()))
}

fn cors(rules: Vec<dto::CORSRule>) -> S3Result<Cors> {
    if rules.is_empty() || rules.len() > RULES_MAX {
        return Err(s3_error!(MalformedXML));
    }
    let rules = rules.into_iter().map(rule).collect::<S3Result<_>>()?;
    Ok(Cors { rules })
}

fn rule(rule: dto::CORSRule) -> S3Result<CorsRule> {
    if rule.allowed_methods.is_empty() || rule.allowed_origins.is_empty() {
        return Err(s3_error!(MalformedXML));
    }
    let rule = CorsRule {
        id: rule.id,
        allowed_headers: rule.allowed_headers.unwrap_or_default(),
        allowed_methods: rule.allowed_methods.iter().map(|name| method(name)).collect::<S3Result<_>>()?,
        allowed_origins: rule.allowed_origins,
        expose_headers: rule.expose_headers.unwrap_or_default(),
        max_age_seconds: rule
            .max_age_seconds
            .map(|seconds| u32::try_from(seconds).map_err(|_| s3_error!(MalformedXML)))
            .transpose()?,
    };
    rule.check().map_err(|error| s3_error!(InvalidRequest, "{error}"))?;
    Ok(rule)
}

fn method(name: &str) -> S3Result<CorsMethod> {
    CorsMethod::named(name).ok_or_else(|| {
        s3_error!(InvalidRequest, "Found unsupported HTTP method in CORS config. Unsupported method is {name}")
    })
}

#[cfg(test)]
mod tests {
    use s3s::dto::CORSRule;

    use super::cors;

    fn rule(methods: &[&str], origins: &[&str]) -> CORSRule {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        CORSRule { allowed_methods: owned(methods), allowed_origins: owned(origins), ..CORSRule::default() }
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        let good = rule(&["GET", "HEAD"], &["*"]);
        assert!(cors(vec![good.clone(); 100]).is_ok());
        let negative = CORSRule { max_age_seconds: Some(-1), ..good.clone() };
        let exposed = CORSRule { expose_headers: Some(vec!["*".to_owned()]), ..good.clone() };
        for (rules, code) in [
            (vec![], "MalformedXML"),
            (vec![good.clone(); 101], "MalformedXML"),
            (vec![good, rule(&[], &["*"])], "MalformedXML"),
            (vec![rule(&["GET"], &[])], "MalformedXML"),
            (vec![negative], "MalformedXML"),
            (vec![rule(&["PATCH"], &["*"])], "InvalidRequest"),
            (vec![rule(&["get"], &["*"])], "InvalidRequest"),
            (vec![rule(&["GET"], &["http://*.*"])], "InvalidRequest"),
            (vec![exposed], "InvalidRequest"),
        ] {
            assert_eq!(cors(rules.clone()).expect_err("no sense").code().as_str(), code, "{rules:?}");
        }
    }
}

//! GetBucketWebsite.

use annulus_common::website::{Condition, Pages, Protocol, Redirect, Replace, RoutingRule, Website};
use s3s::dto::{self, GetBucketWebsiteInput, GetBucketWebsiteOutput};
use s3s::{S3Request, S3Response, S3Result};

use super::Gateway;
use super::bucket_facts::none;
use super::error::s3_error;

pub(super) async fn get_bucket_website(
    gateway: &Gateway,
    req: S3Request<GetBucketWebsiteInput>,
) -> S3Result<S3Response<GetBucketWebsiteOutput>> {
    let bucket = gateway.objects.bucket(&req.input.bucket).await.map_err(s3_error)?;
    let Some(website) = &bucket.config.website else {
        return Err(none("NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration"));
    };
    Ok(S3Response::new(match &**website {
        Website::RedirectAll { host, protocol } => GetBucketWebsiteOutput {
            redirect_all_requests_to: Some(dto::RedirectAllRequestsTo {
                host_name: host.clone(),
                protocol: protocol.map(dto_protocol),
            }),
            ..Default::default()
        },
        Website::Pages(pages) => dto_pages(pages),
    }))
}

fn dto_pages(pages: &Pages) -> GetBucketWebsiteOutput {
    GetBucketWebsiteOutput {
        index_document: Some(dto::IndexDocument { suffix: pages.index_suffix.clone() }),
        error_document: pages.error_key.clone().map(|key| dto::ErrorDocument { key }),
        routing_rules: (!pages.rules.is_empty()).then(|| pages.rules.iter().map(dto_rule).collect()),
        redirect_all_requests_to: None,
    }
}

fn dto_rule(rule: &RoutingRule) -> dto::RoutingRule {
    let dto_condition = |condition: &Condition| dto::Condition {
        http_error_code_returned_equals: condition.error_status.map(|status| status.to_string()),
        key_prefix_equals: condition.key_prefix.clone(),
    };
    dto::RoutingRule { condition: rule.condition.as_ref().map(dto_condition), redirect: dto_redirect(&rule.redirect) }
}

fn dto_redirect(redirect: &Redirect) -> dto::Redirect {
    let (key, prefix) = match &redirect.replace {
        Some(Replace::Key(key)) => (Some(key.clone()), None),
        Some(Replace::Prefix(prefix)) => (None, Some(prefix.clone())),
        None => (None, None),
    };
    dto::Redirect {
        host_name: redirect.host.clone(),
        http_redirect_code: redirect.status.map(|status| status.to_string()),
        protocol: redirect.protocol.map(dto_protocol),
        replace_key_prefix_with: prefix,
        replace_key_with: key,
    }
}

fn dto_protocol(protocol: Protocol) -> dto::Protocol {
    dto::Protocol::from_static(protocol.name())
}

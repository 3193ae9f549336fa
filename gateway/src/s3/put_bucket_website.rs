//! PutBucketWebsite.

use std::sync::Arc;

use annulus_common::map::BucketChange;
use annulus_common::website::{
    Condition, DOCUMENT_BYTES_MAX, Pages, Protocol, RULES_MAX, Redirect, Replace, RoutingRule, Website,
};
use s3s::dto::{self, PutBucketWebsiteInput, PutBucketWebsiteOutput, WebsiteConfiguration};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::error::invalid_value;
use super::{Gateway, body};

pub(super) async fn put_bucket_website(
    gateway: &Gateway,
    req: S3Request<PutBucketWebsiteInput>,
) -> S3Result<S3Response<PutBucketWebsiteOutput>> {
    body::check_document(&req.headers, DOCUMENT_BYTES_MAX)?;
    let input = req.input;
    let website = website(input.website_configuration)?;
    gateway.configure(&input.bucket, BucketChange::Website(Some(Arc::new(website)))).await?;
    Ok(S3Response::new(PutBucketWebsiteOutput::default()))
}

fn website(asked: WebsiteConfiguration) -> S3Result<Website> {
    let rules = asked.routing_rules.unwrap_or_default();
    let Some(all) = asked.redirect_all_requests_to else {
        return pages(asked.index_document, asked.error_document, rules).map(Website::Pages);
    };
    if asked.index_document.is_some() || asked.error_document.is_some() || !rules.is_empty() {
        let message = "RedirectAllRequestsTo cannot be provided in conjunction with other Routing Rules.";
        return Err(invalid_value("RedirectAllRequestsTo", "not null", message));
    }
    if all.host_name.is_empty() {
        return Err(invalid_value("HostName", "", "The HostName of RedirectAllRequestsTo is not well formed"));
    }
    Ok(Website::RedirectAll { host: all.host_name, protocol: protocol(all.protocol)? })
}

fn pages(
    index: Option<dto::IndexDocument>,
    error: Option<dto::ErrorDocument>,
    rules: Vec<dto::RoutingRule>,
) -> S3Result<Pages> {
    let Some(dto::IndexDocument { suffix }) = index else {
        let message = "A value for IndexDocument Suffix must be provided if RedirectAllRequestsTo is empty";
        return Err(invalid_value("IndexDocument", "null", message));
    };
    if suffix.is_empty() || suffix.contains('/') {
        return Err(invalid_value("IndexDocument", &suffix, "The IndexDocument Suffix is not well formed"));
    }
    let error_key = error.map(|error| error.key);
    if error_key.as_ref().is_some_and(String::is_empty) {
        return Err(invalid_value("ErrorDocument", "", "The ErrorDocument Key is not well formed"));
    }
    if rules.len() > RULES_MAX {
        return Err(s3_error!(
            InvalidRequest,
            "{} routing rules provided, the number of routing rules in a website configuration is limited to {RULES_MAX}.",
            rules.len()
        ));
    }
    let rules = rules.into_iter().map(rule).collect::<S3Result<_>>()?;
    Ok(Pages { index_suffix: suffix, error_key, rules })
}

fn rule(asked: dto::RoutingRule) -> S3Result<RoutingRule> {
    Ok(RoutingRule { condition: asked.condition.map(condition).transpose()?, redirect: redirect(asked.redirect)? })
}

fn condition(asked: dto::Condition) -> S3Result<Condition> {
    let error_status = asked.http_error_code_returned_equals.map(|code| error_status(&code)).transpose()?;
    if asked.key_prefix_equals.is_none() && error_status.is_none() {
        return Err(s3_error!(
            InvalidRequest,
            "Condition cannot be empty. To redirect all requests without a condition, the condition element shouldn't be present."
        ));
    }
    Ok(Condition { key_prefix: asked.key_prefix_equals, error_status })
}

fn redirect(asked: dto::Redirect) -> S3Result<Redirect> {
    let replace = match (asked.replace_key_with, asked.replace_key_prefix_with) {
        (Some(_), Some(_)) => {
            return Err(s3_error!(InvalidRequest, "You can only define ReplaceKeyPrefix or ReplaceKey but not both."));
        }
        (Some(key), None) => Some(Replace::Key(key)),
        (None, Some(prefix)) => Some(Replace::Prefix(prefix)),
        (None, None) => None,
    };
    let status = asked.http_redirect_code.map(|code| redirect_status(&code)).transpose()?;
    let redirect = Redirect { protocol: protocol(asked.protocol)?, host: asked.host_name, replace, status };
    if redirect == Redirect::default() {
        // It would send a request to where it is.
        return Err(s3_error!(MalformedXML));
    }
    Ok(redirect)
}

fn protocol(asked: Option<dto::Protocol>) -> S3Result<Option<Protocol>> {
    let named = |asked: dto::Protocol| {
        Protocol::named(asked.as_str()).ok_or_else(|| {
            s3_error!(
                InvalidRequest,
                "Invalid protocol, protocol can be http or https. If not defined the protocol will be selected automatically."
            )
        })
    };
    asked.map(named).transpose()
}

fn error_status(code: &str) -> S3Result<u16> {
    let status = code.parse().ok().filter(|status| (400..600).contains(status));
    status.ok_or_else(|| {
        s3_error!(InvalidRequest, "The provided HTTP error code ({code}) is not valid. Valid codes are 4XX or 5XX.")
    })
}

fn redirect_status(code: &str) -> S3Result<u16> {
    let status = code.parse().ok().filter(|status| (301..400).contains(status));
    status.ok_or_else(|| {
        s3_error!(
            InvalidRequest,
            "The provided HTTP redirect code ({code}) is not valid. Valid codes are 3XX except 300."
        )
    })
}

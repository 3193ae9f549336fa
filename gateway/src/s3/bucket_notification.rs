//! GetBucketNotificationConfiguration, PutBucketNotificationConfiguration: which events are told to whom.
//!
//! As on AWS each destination is sent a test message before the configuration is taken, unless the request says not to.

use std::collections::BTreeSet;
use std::sync::Arc;

use annulus_common::map::BucketChange;
use annulus_common::notification::{
    Destination, EventName, FILTER_BYTES_MAX, Means, Notification, RULE_ID_CHARS_MAX, RULES_MAX, Rule,
};
use futures::future::join_all;
use http::Extensions;
use s3s::dto::{
    Event, FilterRule, FilterRuleName, GetBucketNotificationConfigurationInput,
    GetBucketNotificationConfigurationOutput, LambdaFunctionConfiguration, NotificationConfiguration,
    NotificationConfigurationFilter, PutBucketNotificationConfigurationInput, PutBucketNotificationConfigurationOutput,
    QueueConfiguration, S3KeyFilter, TopicConfiguration,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};
use tracing::info;

use super::Gateway;
use super::error::{invalid_value, s3_error};
use crate::events::{cause_of, test_message, webhook_of};

/// The largest configuration, as it is stored: every gateway and node has it in memory, and a mutation carries of it what its
/// keys meet.
const STORED_BYTES_MAX: usize = 64 << 10;

/// A configuration as the document has it.
struct Asked {
    destination: Destination,
    arn: String,
    id: Option<String>,
    events: Vec<Event>,
    filter: Option<NotificationConfigurationFilter>,
}

pub(super) async fn get_bucket_notification_configuration(
    gateway: &Gateway,
    req: S3Request<GetBucketNotificationConfigurationInput>,
) -> S3Result<S3Response<GetBucketNotificationConfigurationOutput>> {
    let bucket = gateway.objects.bucket(&req.input.bucket).await.map_err(s3_error)?;
    let mut output = GetBucketNotificationConfigurationOutput::default();
    for rule in bucket.config.notification.iter().flat_map(|notification| &notification.rules) {
        let (events, filter) = (rule.events.iter().map(|event| dto_event(*event)).collect(), dto_filter(rule));
        let (id, arn) = (Some(rule.id.clone()), rule.arn.clone());
        match rule.destination {
            Destination::Topic => output.topic_configurations.get_or_insert_default().push(TopicConfiguration {
                events,
                filter,
                id,
                topic_arn: arn,
            }),
            Destination::Queue => output.queue_configurations.get_or_insert_default().push(QueueConfiguration {
                events,
                filter,
                id,
                queue_arn: arn,
            }),
            Destination::Function => {
                let function = LambdaFunctionConfiguration { events, filter, id, lambda_function_arn: arn };
                output.lambda_function_configurations.get_or_insert_default().push(function);
            }
        }
    }
    Ok(S3Response::new(output))
}

pub(super) async fn put_bucket_notification_configuration(
    gateway: &Gateway,
    req: S3Request<PutBucketNotificationConfigurationInput>,
) -> S3Result<S3Response<PutBucketNotificationConfigurationOutput>> {
    let input = req.input;
    let bucket = gateway.objects.bucket(&input.bucket).await.map_err(s3_error)?;
    let map = gateway.accounts.map().await?;
    let serves = |webhook: &str| gateway.webhooks.serves(webhook, bucket.owner, &map);
    let notification = notification_of(input.notification_configuration, serves)?;
    if input.skip_destination_validation != Some(true) {
        gateway.test_webhooks(&notification, &input.bucket, &req.extensions).await?;
    }
    let notification = (!notification.rules.is_empty()).then(|| Arc::new(notification));
    let change = BucketChange::Notification(notification);
    gateway.objects.configure_bucket(&input.bucket, &bucket, change).await.map_err(s3_error)?;
    Ok(S3Response::new(PutBucketNotificationConfigurationOutput::default()))
}

impl Gateway {
    /// Sends each webhook a test message, all at once.
    async fn test_webhooks(&self, notification: &Notification, bucket: &str, request: &Extensions) -> S3Result {
        let cause = cause_of(request, Means::Put);
        let message = test_message(bucket, self.objects.now_ms(), &cause.request_id, &cause.host_id);
        let webhooks: BTreeSet<&str> = notification.rules.iter().map(|rule| rule.webhook.as_str()).collect();
        let tests = webhooks.into_iter().map(|webhook| {
            let message = message.clone();
            async move { (webhook, self.webhooks.post(webhook, message).await) }
        });
        for (webhook, taken) in join_all(tests).await {
            if let Err(error) = taken {
                info!(webhook, bucket, %error, "a webhook does not take the test message");
                return Err(unreachable_destination(webhook, "The destination does not take the test message"));
            }
        }
        Ok(())
    }
}

fn notification_of(document: NotificationConfiguration, serves: impl Fn(&str) -> bool) -> S3Result<Notification> {
    if document.event_bridge_configuration.is_some() {
        return Err(s3_error!(NotImplemented, "Events are told to webhooks alone: there is no EventBridge"));
    }
    let topics = document.topic_configurations.into_iter().flatten().map(Asked::of_topic);
    let queues = document.queue_configurations.into_iter().flatten().map(Asked::of_queue);
    let functions = document.lambda_function_configurations.into_iter().flatten().map(Asked::of_function);
    let rules = topics.chain(queues).chain(functions).map(|asked| asked.rule(&serves).map(Arc::new));
    let notification = Notification { rules: rules.collect::<S3Result<_>>()? };
    check_whole(&notification)?;
    Ok(notification)
}

fn check_whole(notification: &Notification) -> S3Result {
    let rules = &notification.rules;
    if rules.len() > RULES_MAX {
        let message = format!("A bucket has at most {RULES_MAX} notification configurations");
        return Err(invalid_value("NotificationConfiguration", &rules.len().to_string(), message));
    }
    let mut ids = BTreeSet::new();
    if let Some(twice) = rules.iter().find(|rule| !ids.insert(rule.id.as_str())) {
        let message = "Same ID used for multiple configurations. IDs must be unique";
        return Err(invalid_value("Id", &twice.id, message));
    }
    if let Some((one, other)) = notification.overlap() {
        let filters = [&one.prefix, &one.suffix, &other.prefix, &other.suffix];
        return Err(match filters.iter().all(|filter| filter.is_none()) {
            true => s3_error!(
                InvalidArgument,
                "Configurations overlap. Configurations on the same bucket cannot share a common event type."
            ),
            false => s3_error!(
                InvalidArgument,
                "Configuration is ambiguously defined. Cannot have overlapping suffixes in two rules if the prefixes are overlapping for the same event type."
            ),
        });
    }
    let stored = postcard::to_allocvec(notification).map_err(|error| s3_error!(error, InternalError))?;
    if stored.len() > STORED_BYTES_MAX {
        return Err(s3_error!(
            InvalidRequest,
            "The notification configuration is larger than {STORED_BYTES_MAX} bytes"
        ));
    }
    Ok(())
}

impl Asked {
    fn of_topic(TopicConfiguration { events, filter, id, topic_arn }: TopicConfiguration) -> Self {
        Self { destination: Destination::Topic, arn: topic_arn, id, events, filter }
    }

    fn of_queue(QueueConfiguration { events, filter, id, queue_arn }: QueueConfiguration) -> Self {
        Self { destination: Destination::Queue, arn: queue_arn, id, events, filter }
    }

    fn of_function(configuration: LambdaFunctionConfiguration) -> Self {
        let LambdaFunctionConfiguration { events, filter, id, lambda_function_arn } = configuration;
        Self { destination: Destination::Function, arn: lambda_function_arn, id, events, filter }
    }

    /// The rule, if its webhook serves the bucket's account: to others it is not there.
    fn rule(self, serves: impl Fn(&str) -> bool) -> S3Result<Rule> {
        let id = self.id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
        if id.chars().count() > RULE_ID_CHARS_MAX {
            return Err(invalid_value("Id", &id, "The ID of a configuration has at most 255 characters"));
        }
        let webhook = webhook_of(self.destination, &self.arn);
        let webhook = webhook.ok_or_else(|| invalid_value("Arn", &self.arn, "The ARN is not well formed"))?;
        if !serves(webhook) {
            let what = match self.destination {
                Destination::Topic => "The destination topic does not exist",
                Destination::Queue => "The destination queue does not exist",
                Destination::Function => "The destination Lambda does not exist",
            };
            return Err(unreachable_destination(&self.arn, what));
        }
        let (prefix, suffix) = filters(self.filter)?;
        let webhook = webhook.to_owned();
        Ok(Rule {
            id,
            destination: self.destination,
            arn: self.arn,
            webhook,
            events: events(&self.events)?,
            prefix,
            suffix,
        })
    }
}

/// What AWS answers for a destination that is not there, or does not let it in: which one, and why.
fn unreachable_destination(name: &str, why: &str) -> S3Error {
    invalid_value(name, why, "Unable to validate the following destination configurations")
}

fn events(asked: &[Event]) -> S3Result<Vec<EventName>> {
    if asked.is_empty() {
        return Err(s3_error!(MalformedXML));
    }
    let mut events = Vec::new();
    for event in asked {
        let name = EventName::named(event.as_ref());
        let name = name.ok_or_else(|| {
            invalid_value("Event", event.as_ref(), "A specified event is not supported for notifications.")
        })?;
        if !events.contains(&name) {
            events.push(name);
        }
    }
    Ok(events)
}

/// Prefix and suffix, at most one of each.
fn filters(filter: Option<NotificationConfigurationFilter>) -> S3Result<(Option<String>, Option<String>)> {
    let (mut prefix, mut suffix) = (None, None);
    let rules = filter.and_then(|filter| filter.key).and_then(|key| key.filter_rules).unwrap_or_default();
    for FilterRule { name, value } in rules {
        let name = name.ok_or_else(|| s3_error!(MalformedXML))?;
        let value = value.unwrap_or_default();
        if value.len() > FILTER_BYTES_MAX {
            return Err(invalid_value(
                "FilterRule.Value",
                &value,
                "Size of filter rule value cannot exceed 1024 bytes",
            ));
        }
        let (place, twice) = match name.as_str().to_ascii_lowercase().as_str() {
            "prefix" => (&mut prefix, "Cannot specify more than one prefix rule in a filter."),
            "suffix" => (&mut suffix, "Cannot specify more than one suffix rule in a filter."),
            _ => {
                let message = "filter rule name must be either prefix or suffix";
                return Err(invalid_value("FilterRule.Name", name.as_str(), message));
            }
        };
        if place.replace(value).is_some() {
            return Err(invalid_value("FilterRule.Name", name.as_str(), twice));
        }
    }
    Ok((prefix, suffix))
}

fn dto_event(event: EventName) -> Event {
    Event::from(event.name().to_owned())
}

fn dto_filter(rule: &Rule) -> Option<NotificationConfigurationFilter> {
    let filters = [("Prefix", &rule.prefix), ("Suffix", &rule.suffix)];
    let rules = filters.into_iter().filter_map(|(name, value)| {
        let name = Some(FilterRuleName::from_static(name));
        value.clone().map(|value| FilterRule { name, value: Some(value) })
    });
    let rules: Vec<FilterRule> = rules.collect();
    let is_any = !rules.is_empty();
    is_any.then_some(NotificationConfigurationFilter { key: Some(S3KeyFilter { filter_rules: Some(rules) }) })
}

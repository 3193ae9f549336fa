//! How bucket owners name webhooks: by ARNs, as they would name queues, topics and functions of AWS, so that their tools
//! take them. The last part is the webhook's name; which region and account stand before it makes no difference: which accounts may use a
//! webhook is the operator's to say.

use annulus_common::notification::Destination;

/// The name of the webhook that an ARN stands for where a document has such a destination: of `arn:aws:sqs:REGION:ACCOUNT:NAME`,
/// `arn:aws:sns:...:NAME`, `arn:aws:lambda:...:function:NAME`, and of `arn:minio:sqs:REGION:NAME:webhook`, which mc shows in
/// its examples.
pub(crate) fn webhook_of(destination: Destination, arn: &str) -> Option<&str> {
    let service = match destination {
        Destination::Topic => "sns",
        Destination::Queue => "sqs",
        Destination::Function => "lambda",
    };
    let mut parts = arn.splitn(6, ':');
    let mut part = || parts.next();
    let (scheme, partition, named, _, account, resource) = (part()?, part()?, part()?, part()?, part()?, part()?);
    if scheme != "arn" || partition.is_empty() || named != service {
        return None;
    }
    let name = match resource.strip_prefix("function:").filter(|_| destination == Destination::Function) {
        // A version or an alias of a function.
        Some(function) => function.split(':').next()?,
        None if partition == "minio" && resource == "webhook" => account,
        None => resource,
    };
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use annulus_common::notification::Destination::{self, Function, Queue, Topic};

    use super::webhook_of;

    #[test]
    fn the_name_is_found_in_what_tools_write() {
        let found: [(Destination, &str, Option<&str>); 10] = [
            (Queue, "arn:aws:sqs:us-east-1:123456789012:orders", Some("orders")),
            (Queue, "arn:aws:sqs:::orders", Some("orders")),
            (Queue, "arn:minio:sqs::orders:webhook", Some("orders")),
            (Topic, "arn:aws:sns:eu-west-1:123456789012:orders", Some("orders")),
            (Function, "arn:aws:lambda:us-east-1:123456789012:function:orders", Some("orders")),
            (Function, "arn:aws:lambda:us-east-1:123456789012:function:orders:live", Some("orders")),
            (Topic, "arn:aws:sqs:::orders", None),
            (Queue, "arn:aws:sqs:::", None),
            (Queue, "orders", None),
            (Queue, "urn:aws:sqs:::orders", None),
        ];
        for (destination, arn, name) in found {
            assert_eq!(webhook_of(destination, arn), name, "{arn}");
        }
    }
}

//! A table for each operator: what it is given, what the request has, whether it holds.

use serde_json::{Value, json};

use super::{Condition, OPERATORS};
use crate::policy::Context;
use crate::policy::error::PolicyError;

fn parse(operator: &str, values: &Value) -> Result<Condition, PolicyError> {
    Condition::parse(operator, "aws:key", values, true)
}

/// Whether the operator holds for a request that has these values.
fn holds(operator: &str, wanted: &Value, has: &[&str]) -> bool {
    let mut context = Context::default();
    for value in has {
        context.add("aws:key", *value);
    }
    context.add("aws:username", "alice");
    parse(operator, wanted).expect("a condition").holds(&context)
}

/// Checks an operator and its negation, which holds exactly where it does not.
fn check(operator: &str, negation: Option<&str>, wanted: &Value, table: &[(&str, bool)]) {
    for (has, expected) in table {
        assert_eq!(holds(operator, wanted, &[has]), *expected, "{operator} {wanted} {has}");
        if let Some(negation) = negation {
            assert_eq!(holds(negation, wanted, &[has]), !expected, "{negation} {wanted} {has}");
        }
    }
    assert!(!holds(operator, wanted, &[]), "{operator} without the key");
    assert!(holds(&format!("{operator}IfExists"), wanted, &[]), "{operator}IfExists without the key");
    if let Some(negation) = negation {
        assert!(holds(negation, wanted, &[]), "{negation} without the key");
        assert!(holds(&format!("{negation}IfExists"), wanted, &[]), "{negation}IfExists without the key");
    }
}

#[test]
fn strings() {
    let wanted = json!(["red", "gr*n"]);
    check(
        "StringEquals",
        Some("StringNotEquals"),
        &wanted,
        &[("red", true), ("gr*n", true), ("green", false), ("RED", false), ("", false)],
    );
    check(
        "StringEqualsIgnoreCase",
        Some("StringNotEqualsIgnoreCase"),
        &wanted,
        &[("RED", true), ("GR*N", true), ("green", false)],
    );
    check(
        "StringLike",
        Some("StringNotLike"),
        &wanted,
        &[("red", true), ("green", true), ("grn", true), ("Green", false), ("reds", false)],
    );
    check("StringLike", Some("StringNotLike"), &json!("${aws:username}/?"), &[("alice/x", true), ("bob/x", false)]);
    check(
        "StringEquals",
        Some("StringNotEquals"),
        &json!("${aws:username}${*}"),
        &[("alice*", true), ("alice", false)],
    );
    check("StringEquals", Some("StringNotEquals"), &json!("${aws:absent}"), &[("", false)]);
}

#[test]
fn numbers() {
    let ten = json!(10);
    check("NumericEquals", Some("NumericNotEquals"), &json!(["10", 11]), &[("10.0", true), ("11", true), ("9", false)]);
    check("NumericLessThan", None, &ten, &[("9", true), ("10", false), ("11", false)]);
    check("NumericLessThanEquals", None, &ten, &[("9", true), ("10", true), ("11", false)]);
    check("NumericGreaterThan", None, &ten, &[("9", false), ("10", false), ("11", true)]);
    check("NumericGreaterThanEquals", None, &ten, &[("9", false), ("10", true), ("11", true), ("ten", false)]);
}

#[test]
fn dates() {
    let day = json!("2020-03-02T00:00:00Z");
    let (before, at, after) = ("2020-03-01T23:59:59Z", "2020-03-02T01:00:00+01:00", "1583107201");
    check("DateEquals", Some("DateNotEquals"), &day, &[(before, false), (at, true), (after, false)]);
    check("DateLessThan", None, &day, &[(before, true), (at, false), (after, false)]);
    check("DateLessThanEquals", None, &day, &[(before, true), (at, true), (after, false)]);
    check("DateGreaterThan", None, &day, &[(before, false), (at, false), (after, true)]);
    check("DateGreaterThanEquals", None, &day, &[(before, false), (at, true), (after, true), ("today", false)]);
}

#[test]
fn truths_and_bytes() {
    check("Bool", None, &json!(false), &[("false", true), ("False", true), ("true", false), ("0", false)]);
    check("Bool", None, &json!("TRUE"), &[("true", true), ("false", false)]);
    check("BinaryEquals", None, &json!("QmluYXJ5"), &[("QmluYXJ5", true), ("QmluYXJ6", false), ("?", false)]);
}

#[test]
fn addresses() {
    let wanted = json!(["10.0.0.0/8", "2001:db8::/32"]);
    check(
        "IpAddress",
        Some("NotIpAddress"),
        &wanted,
        &[("10.1.2.3", true), ("2001:db8::1", true), ("11.0.0.1", false), ("nowhere", false)],
    );
}

#[test]
fn arns() {
    let wanted = json!("arn:aws:s3:::bucket-?/*");
    for (operator, negation) in [("ArnEquals", "ArnNotEquals"), ("ArnLike", "ArnNotLike")] {
        check(
            operator,
            Some(negation),
            &wanted,
            &[
                ("arn:aws:s3:::bucket-1/a/b", true),
                ("arn:aws:s3:eu::bucket-1/a", false),
                ("arn:aws:s3:::bucket-12/a", false),
            ],
        );
    }
}

#[test]
fn null_asks_whether_the_key_is_there() {
    assert!(holds("Null", &json!("true"), &[]));
    assert!(!holds("Null", &json!("true"), &["x"]));
    assert!(holds("Null", &json!(false), &["x"]));
    assert!(!holds("Null", &json!(false), &[]));
}

#[test]
fn several_values_are_asked_as_the_operator_says() {
    let wanted = json!(["a", "b"]);
    for (operator, has, expected) in [
        ("ForAllValues:StringEquals", &["a", "b"][..], true),
        ("ForAllValues:StringEquals", &["a", "c"], false),
        ("ForAllValues:StringEquals", &[], true),
        ("ForAnyValue:StringEquals", &["c", "b"], true),
        ("ForAnyValue:StringEquals", &["c", "d"], false),
        ("ForAnyValue:StringEquals", &[], false),
        ("ForAllValues:StringNotEquals", &["c", "d"], true),
        ("ForAllValues:StringNotEquals", &["c", "a"], false),
        ("ForAllValues:StringNotEquals", &[], true),
        ("ForAnyValue:StringNotEquals", &["a", "c"], true),
        ("ForAnyValue:StringNotEquals", &["a", "b"], false),
        ("ForAnyValue:StringNotEquals", &[], false),
        ("ForAnyValue:StringEqualsIfExists", &[], true),
        ("StringEquals", &["c", "a"], true),
        ("StringNotEquals", &["c", "a"], false),
        ("StringNotEquals", &["c", "d"], true),
    ] {
        assert_eq!(holds(operator, &wanted, has), expected, "{operator} {has:?}");
    }
}

#[test]
fn an_operator_without_values_never_compares() {
    assert!(!holds("StringEquals", &json!([]), &["a"]));
    assert!(holds("StringNotEquals", &json!([]), &["a"]));
}

#[test]
fn mistakes_are_refused() {
    for operator in ["Equals", "stringequals", "StringEqualsIf", "NullIfExists", "ForSomeValues:StringEquals", "String"]
    {
        assert_eq!(parse(operator, &json!("a")), Err(PolicyError::Operator(operator.to_owned())));
    }
    for (operator, value) in [
        ("NumericEquals", json!("many")),
        ("DateLessThan", json!("soon")),
        ("Bool", json!("maybe")),
        ("Null", json!("x")),
        ("IpAddress", json!("10.0.0.0/40")),
        ("BinaryEquals", json!("%")),
    ] {
        assert_eq!(parse(operator, &value), Err(PolicyError::Value(operator.to_owned())));
    }
    for value in [json!({"a": 1}), json!(null), json!([["a"]]), json!("${")] {
        assert_eq!(parse("StringEquals", &value), Err(PolicyError::Syntax), "{value}");
    }
    assert_eq!(OPERATORS.len(), 27, "the language has 27 operators");
}

//! Text with wildcards and variables. See "IAM JSON policy elements: Resource", "... Condition operators" and "IAM policy
//! elements: Variables and tags" in the IAM user guide.

use super::context::Context;
use super::error::PolicyError;

/// Text of a policy that stands for other text: `*` is any run of characters, `?` any one, `${key}` the value that a request
/// has for a key. Whether wildcards count depends on who compares.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pattern {
    text: Box<str>,
    has_variables: bool,
}

/// A piece of a pattern, with its variables filled in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Glyph {
    Char(char),
    One,
    Many,
}

impl Pattern {
    /// The pattern that `text` writes. The first version of the policy language has no variables.
    pub(super) fn parse(text: &str, variables: bool) -> Result<Self, PolicyError> {
        let has_variables = variables && text.contains("${");
        let pattern = Self { text: text.into(), has_variables };
        if has_variables {
            pattern.pieces().try_for_each(|piece| piece.map(drop))?;
        }
        Ok(pattern)
    }

    /// Whether it stands for one text alone, whatever the request.
    pub(super) fn is_fixed(&self, wildcards: bool) -> bool {
        !(self.has_variables || wildcards && self.text.contains(['*', '?']))
    }

    /// Whether `text` is what the pattern stands for, wildcards and all.
    pub(super) fn matches(&self, text: &str, context: &Context, ignore_case: bool) -> bool {
        match self.glyphs(context) {
            Some(Glyphs::Written(written)) => run(written.chars().map(wildcard), text, ignore_case),
            Some(Glyphs::Filled(glyphs)) => run(glyphs.iter().copied(), text, ignore_case),
            None => false,
        }
    }

    /// Whether `text` is the pattern's own text: its wildcards are characters like others.
    pub(super) fn equals(&self, text: &str, context: &Context, ignore_case: bool) -> bool {
        let literal = |glyph: Glyph| match glyph {
            Glyph::Char(char) => Glyph::Char(char),
            Glyph::One => Glyph::Char('?'),
            Glyph::Many => Glyph::Char('*'),
        };
        match self.glyphs(context) {
            Some(Glyphs::Written(written)) if ignore_case => run(written.chars().map(Glyph::Char), text, true),
            Some(Glyphs::Written(written)) => written == text,
            Some(Glyphs::Filled(glyphs)) => run(glyphs.iter().copied().map(literal), text, ignore_case),
            None => false,
        }
    }

    /// Whether `arn` is meant: each of the six parts is compared with its own, so that a wildcard does not reach over a colon
    /// but in the last one. A pattern of fewer parts is compared as a whole.
    pub(super) fn matches_arn(&self, arn: &str, context: &Context) -> bool {
        let glyphs: Vec<Glyph> = match self.glyphs(context) {
            Some(Glyphs::Written(written)) => written.chars().map(wildcard).collect(),
            Some(Glyphs::Filled(glyphs)) => glyphs,
            None => return false,
        };
        let wanted: Vec<&[Glyph]> = glyphs.splitn(ARN_PARTS, |glyph| *glyph == Glyph::Char(':')).collect();
        let parts: Vec<&str> = arn.splitn(ARN_PARTS, ':').collect();
        if wanted.len() < ARN_PARTS || parts.len() < ARN_PARTS {
            return run(glyphs.iter().copied(), arn, false);
        }
        wanted.iter().zip(parts).all(|(wanted, part)| run(wanted.iter().copied(), part, false))
    }

    /// Its pieces with variables filled in; `None` where the request has no value for one: then nothing is meant.
    fn glyphs(&self, context: &Context) -> Option<Glyphs<'_>> {
        if !self.has_variables {
            return Some(Glyphs::Written(&self.text));
        }
        let mut glyphs = Vec::new();
        for piece in self.pieces() {
            match piece.ok()? {
                Piece::Text(text) => glyphs.extend(text.chars().map(wildcard)),
                Piece::Literal(char) => glyphs.push(Glyph::Char(char)),
                Piece::Variable { key, default } => {
                    let value = context.values(key).next().map(str::to_owned).or_else(|| default.map(str::to_owned))?;
                    // What comes out of a request is never a wildcard.
                    glyphs.extend(value.chars().map(Glyph::Char));
                }
            }
        }
        Some(Glyphs::Filled(glyphs))
    }

    fn pieces(&self) -> Pieces<'_> {
        Pieces { rest: &self.text }
    }
}

/// Parts of `arn:partition:service:region:account:resource`.
const ARN_PARTS: usize = 6;

enum Glyphs<'a> {
    Written(&'a str),
    Filled(Vec<Glyph>),
}

enum Piece<'a> {
    Text(&'a str),
    /// `${*}`, `${?}`, `${$}`.
    Literal(char),
    /// `${key}`, `${key, 'default'}`.
    Variable {
        key: &'a str,
        default: Option<&'a str>,
    },
}

/// What a pattern is made of.
struct Pieces<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Result<Piece<'a>, PolicyError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Some(inside) = self.rest.strip_prefix("${") else {
            let (text, rest) = self.rest.split_at(self.rest.find("${").unwrap_or(self.rest.len()));
            self.rest = rest;
            return Some(Ok(Piece::Text(text)));
        };
        let Some((variable, rest)) = inside.split_once('}') else {
            self.rest = "";
            return Some(Err(PolicyError::Syntax));
        };
        self.rest = rest;
        Some(variable_of(variable).ok_or(PolicyError::Syntax))
    }
}

fn variable_of(text: &str) -> Option<Piece<'_>> {
    match text {
        "*" => return Some(Piece::Literal('*')),
        "?" => return Some(Piece::Literal('?')),
        "$" => return Some(Piece::Literal('$')),
        _ => {}
    }
    let (key, default) = match text.split_once(',') {
        Some((key, default)) => {
            let default = default.trim().strip_prefix('\'')?.strip_suffix('\'')?;
            (key.trim(), Some(default))
        }
        None => (text, None),
    };
    let is_key = key.contains(':') && !key.contains(['*', '?', '$', '{', ' ']);
    is_key.then_some(Piece::Variable { key, default })
}

fn wildcard(char: char) -> Glyph {
    match char {
        '*' => Glyph::Many,
        '?' => Glyph::One,
        char => Glyph::Char(char),
    }
}

/// Matches with one place to return to, the last `*`: what an earlier one could still take, the last can take too.
fn run(mut pattern: impl Iterator<Item = Glyph> + Clone, text: &str, ignore_case: bool) -> bool {
    let mut text = text.chars();
    let mut last_many = None;
    loop {
        let (mut next_pattern, mut next_text) = (pattern.clone(), text.clone());
        let fits = match (next_pattern.next(), next_text.next()) {
            (None, None) => return true,
            (Some(Glyph::Many), _) => {
                pattern = next_pattern;
                last_many = Some((pattern.clone(), text.clone()));
                continue;
            }
            (Some(Glyph::One), Some(_)) => true,
            (Some(Glyph::Char(wanted)), Some(char)) => same(wanted, char, ignore_case),
            _ => false,
        };
        if fits {
            (pattern, text) = (next_pattern, next_text);
            continue;
        }
        let Some((after, from)) = &mut last_many else { return false };
        if from.next().is_none() {
            return false;
        }
        (pattern, text) = (after.clone(), from.clone());
    }
}

fn same(one: char, other: char, ignore_case: bool) -> bool {
    one == other || (ignore_case && one.to_lowercase().eq(other.to_lowercase()))
}

/// Whether `text` is what `pattern`, without variables, stands for.
pub(super) fn matches(pattern: &str, text: &str, ignore_case: bool) -> bool {
    run(pattern.chars().map(wildcard), text, ignore_case)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Pattern, matches};
    use crate::policy::Context;

    /// The definition, without cleverness.
    fn model(pattern: &[char], text: &[char]) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some('*'), _) => model(&pattern[1..], text) || (!text.is_empty() && model(pattern, &text[1..])),
            (Some('?'), Some(_)) => model(&pattern[1..], &text[1..]),
            (Some(wanted), Some(char)) if wanted == char => model(&pattern[1..], &text[1..]),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn wildcards_match_as_they_are_defined(pattern in "[ab*?é]{0,10}", text in "[abé]{0,12}") {
            let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(matches(&pattern, &text, false), model(&p, &t));
        }

        #[test]
        fn any_text_is_a_pattern_or_an_error(text in ".{0,60}", subject in ".{0,20}") {
            if let Ok(pattern) = Pattern::parse(&text, true) {
                let context = Context::default();
                let one = (pattern.matches(&subject, &context, true), pattern.matches_arn(&subject, &context));
                prop_assert_eq!(one, (pattern.matches(&subject, &context, true), pattern.matches_arn(&subject, &context)));
            }
        }
    }

    fn filled(pattern: &str, text: &str) -> bool {
        let mut context = Context::default();
        context.add("aws:username", "al*ce");
        Pattern::parse(pattern, true).expect("a pattern").matches(text, &context, false)
    }

    #[test]
    fn variables_are_what_the_request_has() {
        assert!(filled("home/${aws:username}/*", "home/al*ce/x"));
        assert!(filled("home/${AWS:UserName}/*", "home/al*ce/"));
        assert!(!filled("home/${aws:username}/*", "home/alice/x"), "a value's star is no wildcard");
        assert!(!filled("${aws:absent}", ""), "what the request does not have is nothing");
        assert!(filled("${aws:absent, 'team'}-?", "team-1"));
        assert!(filled("${*}${?}${$}", "*?$"));
        assert!(!filled("${*}", "anything"));
        for wrong in ["${", "${aws:username", "${}", "${name}", "${a:b, team}"] {
            assert!(Pattern::parse(wrong, true).is_err(), "{wrong}");
            assert!(Pattern::parse(wrong, false).is_ok(), "the older language has no variables");
        }
    }

    #[test]
    fn an_arn_is_compared_part_by_part() {
        let arn = |pattern: &str, arn: &str| {
            Pattern::parse(pattern, true).expect("a pattern").matches_arn(arn, &Context::default())
        };
        assert!(arn("arn:aws:s3:::bucket/*", "arn:aws:s3:::bucket/a/b:c"));
        assert!(arn("arn:*:s3:::*", "arn:aws:s3:::bucket"));
        assert!(!arn("arn:aws:s3:::bucket/*", "arn:aws:s3:::bucket"));
        assert!(!arn("arn:aws:*:::bucket", "arn:aws:s3:eu::bucket"));
        assert!(!arn("arn:aws:s3:::BUCKET", "arn:aws:s3:::bucket"));
        assert!(arn("*", "arn:aws:s3:::bucket"));
    }

    #[test]
    fn a_pattern_of_many_stars_ends_soon() {
        let pattern = "a*".repeat(2_000);
        assert!(!matches(&pattern, &"a".repeat(1_024), false));
    }
}

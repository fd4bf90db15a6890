//! Reads a dialogue into its steps. What cannot be read says in which line.

use std::collections::BTreeMap;

use serde_json::Value;

use super::judge::names_in;

/// Names that nobody needs to introduce.
const GIVEN: [&str; 2] = ["base", "token"];

/// One request, and what must come of it.
#[derive(Debug)]
pub(super) struct Step<'t> {
    /// The line that it begins in.
    pub(super) line: usize,
    /// Its comment.
    pub(super) title: String,
    pub(super) method: &'t str,
    /// Below the directory's base URL, with the query.
    pub(super) path: &'t str,
    pub(super) headers: Vec<(&'t str, &'t str)>,
    pub(super) body: String,
    pub(super) status: u16,
    /// `""` where there is none.
    pub(super) scim_type: &'t str,
    pub(super) answer_headers: Vec<(&'t str, &'t str)>,
    pub(super) answer: Option<Value>,
    pub(super) events: Vec<&'t str>,
}

/// The lines of one block, without the marks that they begin with.
#[derive(Debug, Default)]
struct Block<'t> {
    line: usize,
    comment: Vec<&'t str>,
    request: Vec<&'t str>,
    body: Vec<&'t str>,
    answer: Vec<&'t str>,
    answer_body: Vec<&'t str>,
    events: Vec<&'t str>,
}

/// Reads a whole dialogue.
pub(super) fn read(text: &str) -> Result<Vec<Step<'_>>, String> {
    let mut steps = Vec::new();
    let mut common = Vec::new();
    for block in blocks(text) {
        let line = block.line;
        let at_line = |fault: String| format!("{line}: {fault}");
        let is_step = block
            .request
            .first()
            .is_some_and(|first| header(first).is_err());
        if is_step {
            steps.push(step(block, &common).map_err(at_line)?);
        } else if !block.sends_nothing() {
            return Err(at_line("there is no request line".to_owned()));
        } else if !block.request.is_empty() {
            common = headers(&block.request).map_err(at_line)?;
        }
    }
    if steps.is_empty() {
        return Err("1: there is no step".to_owned());
    }
    check_names(text)?;
    Ok(steps)
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut is_inside = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            is_inside = false;
            continue;
        }
        if !is_inside {
            blocks.push(Block {
                line: index + 1,
                ..Block::default()
            });
            is_inside = true;
        }
        blocks.last_mut().unwrap().take(line);
    }
    blocks
}

impl<'t> Block<'t> {
    fn take(&mut self, line: &'t str) {
        let (mark, rest) = line.split_at_checked(1).unwrap_or((line, ""));
        let list = match mark {
            "#" => &mut self.comment,
            ">" => &mut self.request,
            "<" => &mut self.answer,
            "*" => &mut self.events,
            _ => {
                let is_answer = !self.answer.is_empty();
                let body = if is_answer {
                    &mut self.answer_body
                } else {
                    &mut self.body
                };
                body.push(line);
                return;
            }
        };
        list.push(rest.trim());
    }

    /// Whether it is a block that sends nothing, and so expects nothing.
    fn sends_nothing(&self) -> bool {
        self.answer.is_empty() && self.body.is_empty() && self.events.is_empty()
    }
}

fn step<'t>(block: Block<'t>, common: &[(&'t str, &'t str)]) -> Result<Step<'t>, String> {
    if block.comment.is_empty() {
        return Err("the step does not say what it does".to_owned());
    }
    let request = block.request[0].split_once(' ');
    let (method, path) = request.ok_or("a request line is a method and a path")?;
    let expected = block.answer.first().ok_or("the step expects nothing")?;
    let (status, scim_type) = expected.split_once(' ').unwrap_or((expected, ""));
    let status = status.parse().or(Err(format!("{status:?} is no status")))?;
    let own = headers(&block.request[1..])?;
    let is_replaced = |name: &str| {
        own.iter()
            .any(|(given, _)| given.eq_ignore_ascii_case(name))
    };
    let inherited = common
        .iter()
        .filter(|(name, _)| !is_replaced(name))
        .copied();
    let answer = block.answer_body.join("\n");
    let answer = (!answer.is_empty()).then(|| serde_json::from_str(&answer));
    Ok(Step {
        line: block.line,
        title: block.comment.join(" "),
        method,
        path,
        headers: inherited.chain(own.iter().copied()).collect(),
        body: block.body.join("\n"),
        status,
        scim_type,
        answer_headers: headers(&block.answer[1..])?,
        answer: answer
            .transpose()
            .map_err(|error| format!("the answer is no JSON: {error}"))?,
        events: block.events,
    })
}

fn headers<'t>(lines: &[&'t str]) -> Result<Vec<(&'t str, &'t str)>, String> {
    lines.iter().map(|line| header(line)).collect()
}

/// `Name: value`; a request line has no colon before its first space.
fn header(text: &str) -> Result<(&str, &str), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.contains(' ') => Ok((name, value.trim())),
        _ => Err(format!("{text:?} is no header")),
    }
}

/// A name that occurs only once was captured and never used, or is misspelt.
fn check_names(text: &str) -> Result<(), String> {
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.starts_with('#'))
    {
        for name in names_in(line) {
            places.entry(name).or_default().push(index + 1);
        }
    }
    for (name, lines) in places {
        if lines.len() == 1 && !GIVEN.contains(&name) {
            return Err(format!("{}: {{{name}}} occurs only here", lines[0]));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::read;

    #[test]
    fn a_step_is_read_with_the_headers_of_all() {
        let text = "# Who sends.\n\n> User-Agent: A\n> Accept: b\n\n# Writes.\n# Twice.\n\
                    > PUT /Users/1?x=a b\n> accept: c\n{\"a\":\n1}\n< 400 noTarget\n< X: y: z\n\
                    {\"b\": 2}\n* e 1\n";

        let steps = read(text).unwrap();

        let [step] = steps.as_slice() else {
            panic!("{steps:?}")
        };
        assert_eq!((step.line, step.title.as_str()), (6, "Writes. Twice."));
        assert_eq!((step.method, step.path), ("PUT", "/Users/1?x=a b"));
        assert_eq!(step.headers, [("User-Agent", "A"), ("accept", "c")]);
        assert_eq!(step.body, "{\"a\":\n1}");
        assert_eq!((step.status, step.scim_type), (400, "noTarget"));
        assert_eq!(step.answer_headers, [("X", "y: z")]);
        assert_eq!(step.answer, Some(json!({"b": 2})));
        assert_eq!(step.events, ["e 1"]);
    }

    #[test]
    fn what_is_no_dialogue_is_refused_with_its_line() {
        for (text, fault) in [
            ("", "1: there is no step"),
            ("# Only a remark.", "1: there is no step"),
            (
                "\n> GET /Users\n< 200",
                "2: the step does not say what it does",
            ),
            ("# Reads.\n> GET /Users", "1: the step expects nothing"),
            (
                "# Reads.\n> GET /Users\n* dsync.activated",
                "1: the step expects nothing",
            ),
            (
                "# Reads.\n> GET\n< 200",
                "1: a request line is a method and a path",
            ),
            ("# Reads.\n> GET /Users\n< fine", "1: \"fine\" is no status"),
            (
                "# Reads.\n> GET /Users\n> Accept\n< 200",
                "1: \"Accept\" is no header",
            ),
            (
                "# Reads.\n> GET /Users\n< 200\n{",
                "1: the answer is no JSON",
            ),
            ("# Reads.\n< 200", "1: there is no request line"),
            (
                "# Reads.\n> Accept: a\n< 200",
                "1: there is no request line",
            ),
            (
                "# Reads.\n> GET /Users\n< 200\n{\"id\": \"{ada}\"}",
                "4: {ada} occurs only here",
            ),
        ] {
            let found = read(text).map(|_| ()).unwrap_err();

            assert!(found.starts_with(fault), "{found}");
        }
    }
}

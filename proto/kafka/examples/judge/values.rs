//! Compares the values that we decoded, as `Debug` prints them, with the JSON that Kafka's converter made.
//!
//! Kafka's JSON leaves out fields that the version lacks and tagged fields at their defaults, so it may show fewer
//! fields than we do, never more or others.

use serde_json::Value;

/// A value as `Debug` prints it.
#[derive(Debug)]
enum Tree {
    Null,
    Bool(bool),
    Number(f64, String),
    Text(String),
    Bytes(Vec<u8>),
    Uuid(String),
    Records(u64),
    List(Vec<Tree>),
    Fields(Vec<(String, Tree)>),
}

/// Fails with the path of the first value that differs.
pub(crate) fn compare(view: &str, json: &str) -> Result<(), String> {
    let mut parser = Parser {
        chars: view.chars().collect(),
        at: 0,
    };
    let tree = parser.value();
    assert_eq!(parser.at, parser.chars.len(), "debug output not understood: {view}");
    let json: Value = serde_json::from_str(json).map_err(|error| format!("not json: {error}"))?;
    differs("", &tree, &json)
}

fn differs(path: &str, ours: &Tree, theirs: &Value) -> Result<(), String> {
    let same = match (ours, theirs) {
        (Tree::Null, Value::Null) => true,
        (Tree::Bool(ours), Value::Bool(theirs)) => ours == theirs,
        (Tree::Number(float, exact), Value::Number(theirs)) => {
            *exact == theirs.to_string() || theirs.is_f64() && theirs.as_f64() == Some(*float)
        }
        (Tree::Text(ours) | Tree::Uuid(ours), Value::String(theirs)) => ours == theirs,
        (Tree::Bytes(ours), Value::String(theirs)) => base64(ours) == *theirs,
        (Tree::Records(ours), Value::Number(theirs)) => Some(*ours) == theirs.as_u64(),
        // A null records field has size 0 in Kafka's JSON.
        (Tree::Null, Value::Number(theirs)) => path.ends_with("SizeInBytes") && theirs.as_u64() == Some(0),
        (Tree::List(ours), Value::Array(theirs)) => {
            let pairs = ours.iter().zip(theirs);
            pairs
                .enumerate()
                .try_for_each(|(i, (ours, theirs))| differs(&format!("{path}[{i}]"), ours, theirs))?;
            ours.len() == theirs.len()
        }
        (Tree::Fields(ours), Value::Object(theirs)) => {
            for (key, theirs) in theirs {
                let path = format!("{path}.{key}");
                let wanted = plain(key.trim_end_matches("SizeInBytes"));
                let ours = ours.iter().find(|(name, _)| plain(name) == wanted);
                let ours = &ours.ok_or_else(|| format!("{path} is missing"))?.1;
                differs(&path, ours, theirs)?;
            }
            true
        }
        _ => false,
    };
    if same {
        Ok(())
    } else {
        Err(format!("{path}: we have {ours:?}, Kafka {theirs}"))
    }
}

/// Field names without what distinguishes camel from snake case.
fn plain(name: &str) -> String {
    name.chars()
        .filter(|c| *c != '_')
        .flat_map(char::to_lowercase)
        .collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = usize::try_from(group >> (18 - 6 * i) & 0x3f).expect("six bits");
            out.push(if i <= chunk.len() {
                char::from(DIGITS[digit])
            } else {
                '='
            });
        }
    }
    out
}

struct Parser {
    chars: Vec<char>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> char {
        self.chars.get(self.at).copied().unwrap_or('\0')
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.chars[self.at..]
            .iter()
            .copied()
            .take(text.chars().count())
            .eq(text.chars());
        if found {
            self.at += text.chars().count();
        }
        found
    }

    fn until(&mut self, stop: impl Fn(char) -> bool) -> String {
        let start = self.at;
        while self.at < self.chars.len() && !stop(self.peek()) {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    fn value(&mut self) -> Tree {
        if self.eat("Some(") {
            let value = self.value();
            assert!(self.eat(")"), "Some( without an end");
            return value;
        }
        if self.eat("Uuid(") {
            let text = self.until(|c| c == ')');
            self.at += 1;
            return Tree::Uuid(text);
        }
        if self.eat("Records(") {
            let count = self.until(|c| c == ' ');
            assert!(self.eat(" bytes)"), "Records( without an end");
            return Tree::Records(count.parse().expect("length"));
        }
        if self.eat("b\"") {
            return Tree::Bytes(self.quoted_bytes());
        }
        match self.peek() {
            '"' => Tree::Text(self.quoted_text()),
            '[' => self.list(),
            c if c.is_ascii_digit() || c == '-' => {
                let text = self.until(|c| !(c.is_ascii_digit() || "-+.eE".contains(c)));
                Tree::Number(text.parse().expect("number"), text)
            }
            _ => self.named(),
        }
    }

    fn list(&mut self) -> Tree {
        self.at += 1;
        let mut items = Vec::new();
        while !self.eat("]") {
            items.push(self.value());
            let _ = self.eat(", ");
        }
        Tree::List(items)
    }

    fn named(&mut self) -> Tree {
        let name = self.until(|c| !c.is_alphanumeric() && c != '_');
        match name.as_str() {
            "None" => return Tree::Null,
            "true" => return Tree::Bool(true),
            "false" => return Tree::Bool(false),
            _ => {}
        }
        let mut fields = Vec::new();
        if self.eat(" { ") {
            while !self.eat(" }") {
                let field = self.until(|c| c == ':');
                self.at += 2;
                fields.push((field, self.value()));
                let _ = self.eat(", ");
            }
        }
        Tree::Fields(fields)
    }

    /// A string literal as Rust prints it.
    fn quoted_text(&mut self) -> String {
        self.at += 1;
        let mut out = String::new();
        loop {
            let c = self.peek();
            self.at += 1;
            match c {
                '"' => return out,
                '\\' => {
                    let escaped = self.peek();
                    self.at += 1;
                    assert!(
                        matches!(escaped, '"' | '\\'),
                        "samples have no character that Rust escapes otherwise"
                    );
                    out.push(escaped);
                }
                _ => out.push(c),
            }
        }
    }

    /// A byte string literal as the `bytes` crate prints it, after its opening quote.
    fn quoted_bytes(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let c = self.peek();
            self.at += 1;
            let byte = match c {
                '"' => return out,
                '\\' => {
                    let escaped = self.peek();
                    self.at += 1;
                    match escaped {
                        'n' => b'\n',
                        'r' => b'\r',
                        't' => b'\t',
                        '0' => 0,
                        'x' => {
                            let digits: String = self.chars[self.at..self.at + 2].iter().collect();
                            self.at += 2;
                            u8::from_str_radix(&digits, 16).expect("hex")
                        }
                        other => u8::try_from(other).expect("ascii"),
                    }
                }
                _ => u8::try_from(c).expect("ascii"),
            };
            out.push(byte);
        }
    }
}

//! The three standard streams, and whether a person sits at them.
//!
//! Everything that is read or written passes here, so that tests can hold the other ends.

use std::io::{self, BufRead, ErrorKind, IsTerminal as _, Read as _, Write};

use forest_proto::language::Language;

use crate::chinese::said;
use crate::error::Failure;

/// Without a terminal nobody knows how wide the reader's page is.
pub(crate) const DEFAULT_WIDTH: u16 = 80;

/// The server takes no longer ones.
const MAX_PASSWORD: usize = 2048;

/// Stdin, stdout and stderr.
pub(crate) struct Console {
    /// Where `-` reads from.
    pub(crate) stdin: Box<dyn BufRead>,
    /// Data.
    pub(crate) stdout: Box<dyn Write>,
    /// Messages.
    pub(crate) stderr: Box<dyn Write>,
    /// Whether stdin is a terminal: only then can anybody answer a question.
    pub(crate) interactive: bool,
    /// Whether stderr is a terminal: only there can something be drawn over.
    pub(crate) live: bool,
    /// Columns of the terminal that stdout is.
    pub(crate) width: u16,
    /// Whether stdout is a terminal.
    pub(crate) screen: bool,
    /// What headings and messages are said in.
    pub(crate) language: Language,
    /// What is written next replaces what the screen shows.
    pub(crate) clear: bool,
    /// Asks for a secret that is not shown while it is typed; from a terminal, or in tests from stdin.
    pub(crate) ask_hidden: fn(&mut dyn BufRead, &str) -> io::Result<String>,
}

impl Console {
    /// The streams of this process.
    pub(crate) fn of_process() -> Self {
        Self {
            stdin: Box::new(io::stdin().lock()),
            stdout: Box::new(io::stdout()),
            stderr: Box::new(io::stderr()),
            interactive: io::stdin().is_terminal(),
            live: io::stderr().is_terminal(),
            width: comfy_table::Table::new().width().unwrap_or(DEFAULT_WIDTH),
            screen: io::stdout().is_terminal(),
            language: Language::default(),
            clear: false,
            ask_hidden: |_, question| rpassword::prompt_password(question),
        }
    }

    /// Writes data.
    pub(crate) fn print(&mut self, text: &str) -> Result<(), Failure> {
        let text = format!("{}{text}", self.clearing());
        let written = self.stdout.write_all(text.as_bytes()).and_then(|()| self.stdout.flush());
        written.map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Failure::output_closed(),
            _ => Failure::refused(format!("cannot write to stdout: {error}")),
        })
    }

    /// Writes a message. If nobody can read it, there is nobody to tell.
    pub(crate) fn note(&mut self, line: &str) {
        let clearing = self.clearing();
        let _ = self.stdout.write_all(clearing.as_bytes()).and_then(|()| self.stdout.flush());
        let line = said(self.language, line);
        let _ = writeln!(self.stderr, "forest-cli: {line}");
    }

    /// Says why a command was not done.
    pub(crate) fn tell(&mut self, failure: &Failure) {
        self.note(&failure.said(self.language));
    }

    /// What is written from now on stands on an empty screen, if stdout is one.
    pub(crate) fn starts_anew(&mut self) {
        self.clear = self.screen;
    }

    /// Not before there is something to write, so that the screen does not flicker.
    fn clearing(&mut self) -> &'static str {
        if std::mem::take(&mut self.clear) { "\x1b[H\x1b[2J" } else { "" }
    }

    /// Refuses to go on if [`confirm`](Self::confirm) would have nobody to ask. `yes` is the flag that
    /// answers beforehand.
    pub(crate) fn can_confirm(&self, yes: bool) -> Result<(), Failure> {
        match yes || self.interactive {
            true => Ok(()),
            false => Err(Failure::usage("deleting needs --yes where nobody can be asked")),
        }
    }

    /// Asks whether to go on, unless `yes`.
    pub(crate) fn confirm(&mut self, yes: bool, question: &str) -> Result<(), Failure> {
        self.can_confirm(yes)?;
        if yes {
            return Ok(());
        }
        let question = said(self.language, question);
        let _ = write!(self.stderr, "{question} [y/N] ").and_then(|()| self.stderr.flush());
        let mut answer = String::new();
        let read = self.stdin.read_line(&mut answer);
        match (read, answer.trim().to_ascii_lowercase().as_str()) {
            (Ok(_), "y" | "yes") => Ok(()),
            _ => Err(Failure::refused("nothing was done")),
        }
    }

    /// A new password: from the person at the terminal, who types it twice, or the whole of stdin.
    pub(crate) fn new_password(&mut self, from_stdin: bool) -> Result<String, Failure> {
        if from_stdin {
            let text = self.read_text("-", MAX_PASSWORD)?;
            return Ok(text
                .strip_suffix('\n')
                .map(|text| text.strip_suffix('\r').unwrap_or(text))
                .unwrap_or(&text)
                .to_owned());
        }
        if !self.interactive {
            return Err(Failure::usage("give the password with --password-stdin where nobody can be asked"));
        }
        let first = self.hidden("New password (12 characters or more): ")?;
        match self.hidden("The same again: ")? == first {
            true => Ok(first),
            false => Err(Failure::refused("the two passwords differ; nothing was done")),
        }
    }

    /// A password that somebody has: from the person at the terminal, or the whole of stdin.
    pub(crate) fn password(&mut self, from_stdin: bool) -> Result<String, Failure> {
        if from_stdin || !self.interactive {
            return self.new_password(from_stdin);
        }
        self.hidden("Password: ")
    }

    fn hidden(&mut self, question: &str) -> Result<String, Failure> {
        let question = said(self.language, question);
        let answer = (self.ask_hidden)(&mut *self.stdin, &question);
        answer.map_err(|error| Failure::refused(format!("cannot ask for the password: {error}")))
    }

    /// Reads a text of at most `max` bytes from a file, or from stdin if `path` is `-`.
    pub(crate) fn read_text(&mut self, path: &str, max: usize) -> Result<String, Failure> {
        let wrong = |what: &dyn std::fmt::Display| Failure::usage(format!("cannot read {path:?}: {what}"));
        let mut bytes = Vec::new();
        // One byte more than allowed, to tell "full" from "too long".
        let limit = max as u64 + 1;
        match path {
            "-" => self.stdin.by_ref().take(limit).read_to_end(&mut bytes),
            _ => std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
        }
        .map_err(|error| wrong(&error))?;
        if bytes.len() > max {
            return Err(wrong(&format!("it is longer than {max} bytes")));
        }
        String::from_utf8(bytes).map_err(|_| wrong(&"it is not UTF-8 text"))
    }
}

#[cfg(test)]
impl Console {
    /// With this on stdin, and nobody at the other ends.
    pub(crate) fn for_test(stdin: impl Into<String>) -> Self {
        Self {
            stdin: Box::new(io::Cursor::new(stdin.into())),
            stdout: Box::new(io::sink()),
            stderr: Box::new(io::sink()),
            interactive: false,
            width: DEFAULT_WIDTH,
            live: false,
            screen: false,
            language: Language::default(),
            clear: false,
            ask_hidden: |stdin, _| {
                let mut line = String::new();
                stdin.read_line(&mut line).map(|_| line.trim_end().to_owned())
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    fn console(stdin: &'static str, interactive: bool) -> Console {
        Console { interactive, ..Console::for_test(stdin) }
    }

    struct Gone(ErrorKind);
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_went_away_is_no_error_but_a_full_disk_is() {
        let print = |kind| {
            let mut console = Console { stdout: Box::new(Gone(kind)), ..console("", false) };
            console.print("x").expect_err("nothing can be written")
        };
        let closed = print(ErrorKind::BrokenPipe);
        assert!(closed.is_silent() && closed.exit == Exit::Ok);
        let full = print(ErrorKind::StorageFull);
        assert!(!full.is_silent() && full.exit == Exit::Refused);
    }

    #[test]
    fn only_yes_means_yes() {
        let check = |answer, exit: Option<Exit>| {
            let result = console(answer, true).confirm(false, "Delete?");
            assert_eq!(result.err().map(|failure| failure.exit), exit, "{answer:?}");
        };
        check("y\n", None);
        check("YES\n", None);
        check("\n", Some(Exit::Refused));
        check("yesterday\n", Some(Exit::Refused));
        check("", Some(Exit::Refused));
    }

    #[test]
    fn without_a_terminal_the_flag_is_needed() {
        assert!(console("", false).confirm(true, "Delete?").is_ok());
        let refused = console("y\n", false).confirm(false, "Delete?").expect_err("nobody is there");
        assert_eq!(refused.exit, Exit::Usage);
        assert!(refused.to_string().contains("--yes"));
    }

    #[test]
    fn a_password_is_typed_twice_or_piped() {
        let ask = |stdin, interactive, piped| console(stdin, interactive).new_password(piped);
        assert_eq!(ask("a secret\na secret\n", true, false).expect("the same"), "a secret");
        assert_eq!(ask("one\ntwo\n", true, false).expect_err("differ").exit, Exit::Refused);
        assert_eq!(
            ask(" a\nb \r\n", false, true).expect("piped"),
            " a\nb ",
            "only the last line break is not its"
        );
        let nobody = ask("one\none\n", false, false).expect_err("nobody is there");
        assert!(nobody.exit == Exit::Usage && nobody.to_string().contains("--password-stdin"));
    }

    #[test]
    fn inputs_are_bounded_text() {
        assert_eq!(console("abc", false).read_text("-", 3).expect("fits"), "abc");
        let long = console("abcd", false).read_text("-", 3).expect_err("too long");
        assert!(long.to_string().contains("longer than 3 bytes") && long.exit == Exit::Usage);
        let mut binary = console("", false);
        binary.stdin = Box::new(&b"\xff"[..]);
        assert!(binary.read_text("-", 3).expect_err("binary").to_string().contains("not UTF-8"));
        assert!(binary.read_text("/nowhere/at/all", 3).is_err());
    }
}

//! What the user reads, on standard output: in English, or in Chinese where the environment asks for it. Log lines
//! go elsewhere.

use std::io::Write;

use forest_client::JobContext;
use forest_proto::admin::v1::Run;

use super::home::Home;
use super::port::Place;

/// Longest part of a result that a line has room for, in characters.
const RESULT: usize = 90;

/// Where lines go, and their language.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    chinese: bool,
}

impl Screen {
    pub(super) fn from_environment() -> Self {
        Self { chinese: is_chinese(&|name| std::env::var(name).ok()) }
    }

    fn line(self, text: &str) {
        // Nobody reading is no reason to end.
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    fn say(self, english: &str, chinese: &str) {
        self.line(if self.chinese { chinese } else { english });
    }

    /// Where everything is, and what to try.
    pub(super) fn welcome(self, api: Place, etcd: Place, home: &Home) {
        self.say(
            "Forest, for development only: a node, an etcd, a history and sample jobs in this process.",
            "Forest 开发模式（仅供开发使用）：一个进程内包含节点、etcd、执行历史和示例任务。",
        );
        self.address("API ", &api.url(), api.taken);
        self.address("etcd", &etcd.address.to_string(), etcd.taken);
        let data = home.path().display();
        match home.is_temporary() {
            true => self.say(
                &format!("  data  {data}, removed at the end; --data DIR keeps it"),
                &format!("  数据  {data}，结束时删除；用 --data DIR 保留"),
            ),
            false => self.say(&format!("  data  {data}, kept"), &format!("  数据  {data}，保留")),
        }
        self.next_steps(api, etcd);
    }

    fn address(self, name: &str, address: &str, taken: Option<u16>) {
        let Some(taken) = taken else { return self.line(&format!("  {name}  {address}")) };
        self.say(
            &format!("  {name}  {address}  (port {taken} is taken)"),
            &format!("  {name}  {address}  （端口 {taken} 已被占用）"),
        );
    }

    fn next_steps(self, api: Place, etcd: Place) {
        // The command line finds the usual port by itself.
        let server = match api.address.to_string().as_str() {
            "127.0.0.1:2856" => String::new(),
            _ => format!(" --server {}", api.url()),
        };
        self.say("In another terminal:", "在另一个终端中：");
        for command in ["status", "job list", "run list"] {
            self.line(&format!("  forest-cli{server} {command}"));
        }
        self.say(
            "A worker of your own, for jobs of group examples:",
            "您自己的工作进程，用于集群 examples 的任务：",
        );
        let etcd = etcd.address;
        self.line(&format!("  FOREST_ETCD_ENDPOINTS={etcd} cargo run -p forest-client --example hello"));
        self.line(&format!("  forest-cli{server} group add examples"));
        self.line(&format!(
            "  forest-cli{server} job add --group examples --name hello --target hello --cron '@every 5s'"
        ));
        self.say("Ctrl-C ends it. Runs that end:", "按 Ctrl-C 结束。已结束的执行：");
    }

    /// A line for a run that ended.
    pub(super) fn ended(self, run: &Run) {
        self.line(&ended(run, self.chinese));
    }

    /// A line of a run that goes on.
    pub(super) fn progress(self, ctx: &JobContext, step: u32, of: u32) {
        let name = ctx.job_name();
        self.say(&format!("  {name}: step {step} of {of} done"), &format!("  {name}：已完成 {step}/{of} 步"));
    }

    /// A line of a run that stops because it was asked to.
    pub(super) fn stopped(self, ctx: &JobContext, step: u32, of: u32) {
        let name = ctx.job_name();
        self.say(
            &format!("  {name}: stops after step {step} of {of}, as it was asked to"),
            &format!("  {name}：按要求在第 {step}/{of} 步后停止"),
        );
    }

    /// The last line.
    pub(super) fn farewell(self, home: &Home) {
        let data = home.path().display();
        match home.is_temporary() {
            true => self.say("Ended; nothing is kept.", "已结束，数据不保留。"),
            false => self.say(
                &format!("Ended; jobs and history are kept in {data}."),
                &format!("已结束，任务和历史保留在 {data}。"),
            ),
        }
    }
}

fn ended(run: &Run, chinese: bool) -> String {
    let outcome = match (chinese, run.outcome.as_str()) {
        (true, "succeeded") => "成功",
        (true, "failed") => "失败",
        (true, "overlap_skipped") => "跳过（上一次仍在执行）",
        (_, other) => other,
    };
    let attempt = match (run.max_attempts, chinese) {
        (0 | 1, _) => String::new(),
        (max, true) => format!("，第 {}/{max} 次", run.attempt),
        (max, false) => format!(", attempt {} of {max}", run.attempt),
    };
    // The text comes from a worker: it must not move the cursor or end the line.
    let shown: String =
        run.result.chars().map(|c| if c.is_control() { ' ' } else { c }).take(RESULT).collect();
    let more = if run.result.chars().nth(RESULT).is_some() { "..." } else { "" };
    format!("  {} {outcome} {} ms{attempt}  {}  {shown}{more}", run.job_name, run.duration_ms, run.id)
        .trim_end()
        .to_owned()
}

/// What the environment says about messages, in the order that POSIX gives.
fn is_chinese(env: &dyn Fn(&str) -> Option<String>) -> bool {
    let mut set =
        ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().filter_map(env).filter(|text| !text.is_empty());
    set.next().is_some_and(|language| language.starts_with("zh"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_that_of_messages() {
        let check = |variables: &[(&str, &str)], expected: bool| {
            let env = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
            assert_eq!(is_chinese(&env), expected, "{variables:?}");
        };
        check(&[], false);
        check(&[("LANG", "zh_CN.UTF-8")], true);
        check(&[("LANG", "zh_CN.UTF-8"), ("LC_ALL", "C")], false);
        check(&[("LANG", "en_US.UTF-8"), ("LC_MESSAGES", "zh_TW"), ("LC_ALL", "")], true);
    }

    #[test]
    fn a_line_of_a_run_has_one_line_and_says_how_it_ended() {
        let run = Run {
            id: "r1".into(),
            job_name: "pay".into(),
            outcome: "failed".into(),
            duration_ms: 12,
            attempt: 1,
            max_attempts: 3,
            result: format!("a\nb\u{1b}[2J{}", "x".repeat(200)),
            ..Run::default()
        };
        let line = ended(&run, false);
        assert!(line.starts_with("  pay failed 12 ms, attempt 1 of 3  r1  a b [2Jxxx"), "{line}");
        assert!(line.ends_with("...") && !line.contains(char::is_control), "{line}");
        let short = Run { max_attempts: 1, result: String::new(), ..run };
        assert_eq!(ended(&short, true), "  pay 失败 12 ms  r1");
    }
}

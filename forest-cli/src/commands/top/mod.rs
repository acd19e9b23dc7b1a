//! `top`: the cluster as it is now, on the whole screen.
//!
//! Events keep it up to date; the lists are read at the beginning, when events are missing, and at most every few
//! seconds while something happens. What is shown is [`model`]'s, how it looks [`draw`]'s; the terminal belongs to
//! [`screen`].

mod draw;
mod lists;
mod model;
mod screen;

use std::pin::Pin;
use std::time::Duration;

use forest_proto::admin::v1::WatchEventsRequest;
use ratatui::crossterm::event::{Event as Input, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use self::lists::Lists;
use self::model::Model;
use self::screen::Screen;
use super::Context;
use super::events::follow::{Follow, RESET, Told};
use crate::args::{Format, Top};
use crate::clock;
use crate::connect::Api;
use crate::error::Failure;

/// Between two readings of the lists.
const READ_EVERY: Duration = Duration::from_secs(3);
/// Between two drawings, if nothing happens: ages grow.
const DRAW_EVERY: Duration = Duration::from_secs(1);
/// At least so long lies between two drawings, if much happens.
const DRAW_AFTER: Duration = Duration::from_millis(100);

enum Happened {
    Told(Result<Told, Failure>),
    Read(Box<Result<Lists, Failure>>),
    Input(Option<Input>),
    Time,
    Signal,
}

pub(super) async fn run(context: &mut Context<'_>, args: &Top) -> Result<(), Failure> {
    if context.view.format != Format::Table {
        return Err(Failure::usage(
            "top draws on a terminal and has no -o: use `status`, or `events -f`, with it",
        ));
    }
    if !context.console.screen {
        return Err(Failure::usage(
            "top needs a terminal, and stdout is none: use `status` or `events -f` instead",
        ));
    }
    // Before the screen is taken: a failure is told as any other.
    let lists = lists::read(context.api.clone(), args.group.clone()).await?;
    let mut model = Model::new(lists);
    let mut screen = Screen::open()?;
    let ended =
        Loop::new(context.api.clone(), args.group.clone())?.run(&mut model, &mut screen, context).await;
    drop(screen);
    ended
}

type Reading = Pin<Box<dyn Future<Output = Result<Lists, Failure>>>>;

/// The end of a reading; never, if there is none.
async fn finish(reading: &mut Option<Reading>) -> Result<Lists, Failure> {
    match reading {
        Some(reading) => reading.await,
        None => std::future::pending().await,
    }
}

/// What it waits for.
struct Loop {
    api: Api,
    group: String,
    follow: Follow,
    inputs: mpsc::Receiver<Input>,
    signals: mpsc::Receiver<()>,
    _watching: tokio::task::JoinSet<()>,
    /// Something has happened since the lists were read.
    stale: bool,
    read_at: Instant,
    drawn_at: Instant,
    /// What is on the screen is not what is known.
    changed: bool,
}

impl Loop {
    fn new(api: Api, group: String) -> Result<Self, Failure> {
        // All that the server remembers, for the runs that ended last.
        let request = WatchEventsRequest { since: "0".into(), group: group.clone(), ..Default::default() };
        let (signals, watching) = signals()?;
        Ok(Self {
            api,
            group,
            follow: Follow::new(request),
            inputs: screen::inputs(),
            signals,
            _watching: watching,
            stale: false,
            read_at: Instant::now(),
            drawn_at: Instant::now(),
            changed: true,
        })
    }

    async fn run(
        mut self,
        model: &mut Model,
        screen: &mut Screen,
        context: &Context<'_>,
    ) -> Result<(), Failure> {
        let mut listening = self.api.clone();
        let mut reading: Option<Reading> = None;
        loop {
            let now = Instant::now();
            if self.stale && reading.is_none() && now >= self.read_at + READ_EVERY {
                self.stale = false;
                reading = Some(Box::pin(lists::read(self.api.clone(), self.group.clone())));
            }
            if now >= self.next_drawing() {
                screen.draw(|frame| draw::draw(frame, model, &context.view.zone, clock::now()))?;
                (self.drawn_at, self.changed) = (now, false);
            }
            let next_time = self.next_time(reading.is_some());
            let happened = tokio::select! {
                biased;
                _ = self.signals.recv() => Happened::Signal,
                input = self.inputs.recv() => Happened::Input(input),
                lists = finish(&mut reading) => Happened::Read(Box::new(lists)),
                () = sleep_until(next_time) => Happened::Time,
                told = self.follow.next(&mut listening) => Happened::Told(told),
            };
            match happened {
                Happened::Signal | Happened::Input(None) => return Ok(()),
                Happened::Input(Some(input)) => {
                    if !self.react(&input, model) {
                        return Ok(());
                    }
                }
                Happened::Read(lists) => {
                    (reading, self.read_at, self.changed) = (None, Instant::now(), true);
                    match *lists {
                        Ok(lists) => model.take_lists(lists),
                        Err(failure) => model.trouble = failure.to_string(),
                    }
                }
                Happened::Time => {}
                Happened::Told(told) => self.take(told?, model),
            }
        }
    }

    fn next_drawing(&self) -> Instant {
        self.drawn_at + if self.changed { DRAW_AFTER } else { DRAW_EVERY }
    }

    fn next_time(&self, is_reading: bool) -> Instant {
        let drawing = self.next_drawing();
        if self.stale && !is_reading { drawing.min(self.read_at + READ_EVERY) } else { drawing }
    }

    fn take(&mut self, told: Told, model: &mut Model) {
        match told {
            Told::Event(event) => {
                model.trouble.clear();
                if event.r#type == RESET {
                    self.stale = true;
                    // Now, not in a while.
                    self.read_at = Instant::now() - READ_EVERY;
                } else if model.take_event(&event) {
                    self.stale = true;
                }
            }
            Told::Silence(failure) => model.trouble = failure.to_string(),
            Told::End => {}
        }
        self.changed = true;
    }

    /// Says whether to go on.
    fn react(&mut self, input: &Input, model: &mut Model) -> bool {
        self.changed = true;
        self.drawn_at -= DRAW_AFTER;
        let Input::Key(key) = input else { return true };
        if key.kind == KeyEventKind::Release {
            return true;
        }
        match key {
            KeyEvent { code: KeyCode::Char('q') | KeyCode::Esc, .. } => return false,
            KeyEvent { code: KeyCode::Char('c'), modifiers, .. }
                if modifiers.contains(KeyModifiers::CONTROL) =>
            {
                return false;
            }
            KeyEvent { code: KeyCode::Char('r'), .. } => {
                self.stale = true;
                self.read_at = Instant::now() - READ_EVERY;
            }
            KeyEvent { code, .. } => model.press(*code),
        }
        true
    }
}

/// Signals that end a program, told so that the terminal can be given back before.
fn signals() -> Result<(mpsc::Receiver<()>, tokio::task::JoinSet<()>), Failure> {
    let (sender, receiver) = mpsc::channel(1);
    let mut watching = tokio::task::JoinSet::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()] {
        let mut signal =
            signal(kind).map_err(|error| Failure::refused(format!("cannot wait for signals: {error}")))?;
        let sender = sender.clone();
        watching.spawn(async move {
            signal.recv().await;
            // Nobody waits any more: it ends anyway.
            let _ = sender.send(()).await;
        });
    }
    Ok((receiver, watching))
}

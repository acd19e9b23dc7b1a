//! The terminal, taken for as long as this value lives: given back at its end, and by a panic.

use std::time::Duration;

use ratatui::crossterm::event::{self, Event};
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::mpsc;

use crate::error::Failure;

/// Keys that may wait.
const INPUTS: usize = 64;
/// How soon it is noticed that nobody wants keys any more.
const POLL: Duration = Duration::from_millis(200);

pub(super) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    pub(super) fn open() -> Result<Self, Failure> {
        // This also lets a panic give the terminal back before it speaks.
        let terminal = ratatui::try_init().map_err(|error| failure(&error))?;
        Ok(Self { terminal })
    }

    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> Result<(), Failure> {
        self.terminal.draw(draw).map_err(|error| failure(&error))?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn failure(error: &std::io::Error) -> Failure {
    Failure::refused(format!("cannot draw on the terminal: {error}"))
}

/// What is typed, until the receiver is dropped. Reading a terminal blocks: it has a thread of its own.
pub(super) fn inputs() -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(INPUTS);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            match event::poll(POLL) {
                Ok(false) => {}
                Ok(true) => {
                    let Ok(event) = event::read() else { return };
                    if sender.blocking_send(event).is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    });
    receiver
}

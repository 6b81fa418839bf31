//! From frames to driver calls, made from the call table.

use std::collections::HashMap;

// All of it, so that a new row of the table finds its types.
use cuda::*;
use wire::calls::opcode;
use wire::encoding::{Argument, put_value};
use wire::frame::{self, FrameError, Header};

use crate::session::Session;

/// What is left to do once others may read on: a call that waits for the GPU.
pub(crate) type Job = Box<dyn FnOnce(&Session) + Send>;

/// With more streams than this to ask, a call is taken to be one that waits.
const FEW: usize = 8;

/// Streams of a session: what it takes to know whether a call would wait.
#[derive(Default)]
pub(crate) struct Streams(HashMap<StreamId, (ContextId, StreamKind)>);

impl Streams {
    pub(crate) fn context(&self, stream: StreamId) -> Option<ContextId> {
        self.0.get(&stream).map(|entry| entry.0)
    }

    /// Whether work on the stream could start at once.
    pub(crate) fn is_idle(&self, session: &Session, stream: StreamId) -> bool {
        match self.0.get(&stream) {
            None => false,
            Some((_, StreamKind::NonBlocking)) => idle(session, stream),
            // Work on a blocking stream waits for the legacy stream, work on that for all blocking ones.
            Some((context, StreamKind::Blocking)) => {
                idle(session, stream)
                    && self.all_idle(session, |other, kind| other == *context && kind == StreamKind::Legacy)
            }
            Some((context, StreamKind::Legacy)) => {
                self.all_idle(session, |other, kind| other == *context && kind != StreamKind::NonBlocking)
            }
        }
    }

    fn all_idle(&self, session: &Session, wanted: impl Fn(ContextId, StreamKind) -> bool) -> bool {
        self.0.len() <= FEW
            && self.0.iter().filter(|(_, entry)| wanted(entry.0, entry.1)).all(|(stream, _)| idle(session, *stream))
    }
}

fn idle(session: &Session, stream: StreamId) -> bool {
    session.driver.stream_query(stream) == Ok(true)
}

/// Whether the stream's work is done, an error or not.
fn event_passed(session: &Session, event: EventId) -> bool {
    session.driver.event_query(event) == Ok(true)
}

macro_rules! dispatch {
    ($($(#[$doc:meta])* $class:ident fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $answer:ty)?;)*) => {
        /// Executes a command, or returns what is left of it to do.
        pub(crate) fn execute(
            session: &Session,
            streams: &mut Streams,
            header: Header,
            payload: &[u8],
        ) -> Result<Option<Job>, FrameError> {
            let malformed = |_| FrameError::Malformed { opcode: header.opcode };
            let mut input = payload;
            match header.opcode {
                $(opcode::$name => {
                    $(let $arg = <$type as Argument>::take(&mut input).map_err(malformed)?;)*
                    end(input, header)?;
                    dispatch!(@run $class $name session streams header ($($arg),*))
                })*
                frame::COPY_TO_HOST => {
                    let stream = StreamId::take(&mut input).map_err(malformed)?;
                    let source = Region::take(&mut input).map_err(malformed)?;
                    let wait = bool::take(&mut input).map_err(malformed)?;
                    end(input, header)?;
                    Ok(session.copy_to_host(streams, header.id, stream, source, wait))
                }
                frame::CALLBACK_DONE => {
                    let ticket = payload.try_into().map_err(|_| FrameError::Malformed { opcode: header.opcode })?;
                    session.outlet.callback_done(cuda::TicketId(u64::from_le_bytes(ticket)));
                    Ok(None)
                }
                opcode => Err(FrameError::Unknown { opcode, flags: header.flags }),
            }
        }
    };
    (@run one_way copy_to_device $session:ident $streams:ident $header:ident ($stream:ident, $target:ident, $data:ident)) => {{
        // What the driver may rely on: as many bytes as the region has.
        if $target.bytes() == Some($data.len() as u64) {
            note($session, $session.driver.copy_to_device($stream, $target, $data));
        } else {
            $session.outlet.defer(cuda::CuError::INVALID_VALUE);
        }
        Ok(None)
    }};
    (@run one_way stream_create $session:ident $streams:ident $header:ident
        ($context:ident, $stream:ident, $kind:ident, $priority:ident)) => {{
        if note($session, $session.driver.stream_create($context, $stream, $kind, $priority)) {
            $streams.0.insert($stream, ($context, $kind));
        }
        Ok(None)
    }};
    (@run one_way stream_destroy $session:ident $streams:ident $header:ident ($stream:ident)) => {{
        $streams.0.remove(&$stream);
        note($session, $session.driver.stream_destroy($stream));
        Ok(None)
    }};
    (@run one_way context_destroy $session:ident $streams:ident $header:ident ($context:ident)) => {{
        $streams.0.retain(|_, entry| entry.0 != $context);
        note($session, $session.driver.context_destroy($context));
        Ok(None)
    }};
    (@run one_way $name:ident $session:ident $streams:ident $header:ident ($($arg:ident),*)) => {{
        note($session, $session.driver.$name($($arg),*));
        Ok(None)
    }};
    (@run round_trip $name:ident $session:ident $streams:ident $header:ident ($($arg:ident),*)) => {{
        let result = $session.driver.$name($($arg),*);
        $session.deliver();
        $session.outlet.answer($header.id, result, put_value);
        Ok(None)
    }};
    (@run blocking $name:ident $session:ident $streams:ident $header:ident ($($arg:ident),*)) => {{
        let prompt = dispatch!(@prompt $name $session $streams ($($arg),*));
        let id = $header.id;
        let job = move |session: &Session| {
            let result = session.driver.$name($($arg),*);
            session.deliver();
            session.outlet.answer(id, result, put_value);
        };
        if prompt {
            job($session);
            return Ok(None);
        }
        Ok(Some(Box::new(job)))
    }};
    (@prompt stream_synchronize $session:ident $streams:ident ($stream:ident)) => { idle($session, $stream) };
    (@prompt event_synchronize $session:ident $streams:ident ($event:ident)) => { event_passed($session, $event) };
    (@prompt context_synchronize $session:ident $streams:ident ($context:ident)) => {
        $streams.all_idle($session, |other, _| other == $context)
    };
    (@prompt mem_unmap $session:ident $streams:ident ($device:ident, $address:ident)) => {
        $streams.all_idle($session, |_, _| true)
    };
    (@prompt $name:ident $session:ident $streams:ident ($($arg:ident),*)) => { false };
}

driver_calls!(dispatch);

/// Keeps the error of a one-way call; says whether there was none.
#[inline]
fn note(session: &Session, result: CuResult) -> bool {
    match result {
        Ok(()) => true,
        Err(error) => {
            session.outlet.defer(error);
            false
        }
    }
}

fn end(rest: &[u8], header: Header) -> Result<(), FrameError> {
    if rest.is_empty() { Ok(()) } else { Err(FrameError::Malformed { opcode: header.opcode }) }
}

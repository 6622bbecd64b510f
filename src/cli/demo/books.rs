//! What must hold in a sale, and whether it did: everything that anybody was told is entered here and compared.
//!
//! Owns the judgement. Never talks to anybody, and reads no clock. Invariants: a place is never lost or changed; nobody is
//! told that more people are ahead than before; a seat is sold once; whoever is promised a result gets that one; the
//! gateway's own books add up.

use std::collections::HashMap;

use crate::generated::realtime::QueueResponse;

/// Faults that are shown; the rest is counted.
const FAULTS_SHOWN_MAX: usize = 10;

/// Where a simulated buyer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not in the queue yet.
    #[default]
    Coming,
    /// In the queue.
    Waiting,
    /// Has a pass.
    Admitted,
    /// Has a result, or wants none.
    Gone,
    /// Was told that there is nothing left.
    Disappointed,
}

#[derive(Default)]
struct Person {
    stage: Stage,
    place: Option<u64>,
    ahead: Option<u64>,
}

/// A result that the shop sent.
struct Promise {
    /// `None`: nothing was sold.
    seat: Option<String>,
    /// `None`: it is for somebody who is not simulated.
    buyer: Option<usize>,
    kept: bool,
}

/// Everything that was told.
#[derive(Default)]
pub(super) struct Books {
    people: Vec<Person>,
    /// By booking.
    promises: HashMap<String, Promise>,
    /// Seats that were sold, and to which booking.
    sold: HashMap<String, String>,
    positions: u64,
    returns: u64,
    faults: Vec<String>,
    fault_count: u64,
}

impl Books {
    /// For that many simulated buyers.
    pub(super) fn new(buyers: usize) -> Self {
        Self { people: (0..buyers).map(|_| Person::default()).collect(), ..Self::default() }
    }

    /// A buyer has a place in the queue; `None`: it will be drawn.
    pub(super) fn placed(&mut self, buyer: usize, place: Option<u64>) {
        let person = &mut self.people[buyer];
        if person.stage == Stage::Coming {
            person.stage = Stage::Waiting;
        }
        match (person.place, place) {
            (Some(known), Some(now)) if known != now => {
                self.fault(format!("buyer {buyer} had place {known} and has place {now}"));
            }
            (Some(known), None) => self.fault(format!("buyer {buyer} had place {known} and has none")),
            (_, place) => person.place = place,
        }
    }

    /// A buyer was told how many are ahead.
    pub(super) fn position(&mut self, buyer: usize, ahead: u64) {
        self.positions += 1;
        let person = &mut self.people[buyer];
        let before = person.ahead.replace(ahead);
        if let Some(before) = before.filter(|before| ahead > *before) {
            self.fault(format!("buyer {buyer} had {before} people ahead, then {ahead}"));
        }
    }

    /// A buyer has a pass.
    pub(super) fn admitted(&mut self, buyer: usize, place: Option<u64>) {
        self.placed(buyer, place);
        self.advance(buyer, Stage::Admitted);
    }

    /// A buyer is done: what it wanted came, expired or was given up.
    pub(super) fn gone(&mut self, buyer: usize) {
        self.advance(buyer, Stage::Gone);
    }

    /// A buyer was told that there is nothing left.
    pub(super) fn disappointed(&mut self, buyer: usize) {
        if matches!(self.people[buyer].stage, Stage::Coming | Stage::Waiting) {
            self.people[buyer].stage = Stage::Disappointed;
        }
    }

    /// A buyer lost its connection, and came back.
    pub(super) fn returned(&mut self) {
        self.returns += 1;
    }

    /// The gateway accepted a result; from now on it must arrive.
    pub(super) fn promised(&mut self, booking: &str, seat: Option<String>, buyer: Option<usize>) {
        if let Some(seat) = &seat
            && let Some(before) = self.sold.insert(seat.clone(), booking.to_owned())
        {
            self.fault(format!("seat {seat} was sold twice, to {before} and {booking}"));
        }
        // Who is fast hears of it before its caller does.
        let kept = buyer.is_none() || self.promises.get(booking).is_some_and(|early| early.kept);
        let early = self.promises.insert(booking.to_owned(), Promise { seat: seat.clone(), buyer, kept });
        if let Some(early) = early.filter(|early| early.seat != seat || early.buyer != buyer) {
            let (told, by) = (early.seat.unwrap_or_default(), early.buyer.unwrap_or_default());
            self.fault(format!("booking {booking} was {seat:?}, and buyer {by} heard {told:?}"));
        }
    }

    /// A result arrived.
    pub(super) fn heard(&mut self, buyer: usize, booking: &str, seat: Option<String>) {
        let heard = Promise { seat: seat.clone(), buyer: Some(buyer), kept: true };
        match self.promises.get_mut(booking) {
            None => drop(self.promises.insert(booking.to_owned(), heard)),
            Some(promise) if promise.kept => self.fault(format!("booking {booking} was told twice")),
            Some(promise) if promise.seat != seat || promise.buyer != Some(buyer) => {
                let sold = promise.seat.clone();
                self.fault(format!("booking {booking} was {sold:?}, and buyer {buyer} heard {seat:?}"));
            }
            Some(promise) => promise.kept = true,
        }
        self.gone(buyer);
    }

    /// The gateway's own books.
    pub(super) fn queue(&mut self, queue: &QueueResponse) {
        let QueueResponse { holding, inside, expired, completed, abandoned, admitted, .. } = *queue;
        if admitted != holding + inside + expired + completed + abandoned {
            self.fault(format!(
                "{admitted} admitted are not {holding} with a pass, {inside} inside, {expired} expired, {completed} done \
                 and {abandoned} who gave up"
            ));
        }
        let QueueResponse { total, waiting, departed, left, .. } = *queue;
        if total != waiting + departed + left + admitted {
            self.fault(format!(
                "{total} places are not {waiting} waiting, {departed} departed, {left} left and {admitted} admitted"
            ));
        }
    }

    /// Something that should not be.
    pub(super) fn fault(&mut self, fault: String) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_SHOWN_MAX {
            self.faults.push(fault);
        }
    }

    /// Those to show, and how many there are.
    pub(super) fn faults(&self) -> (&[String], u64) {
        (&self.faults, self.fault_count)
    }

    /// Results that arrived, of how many that must.
    pub(super) fn results(&self) -> (usize, usize) {
        let kept = self.promises.values().filter(|promise| promise.kept).count();
        (kept, self.promises.len())
    }

    pub(super) fn sold(&self) -> usize {
        self.sold.len()
    }

    /// Positions that were told.
    pub(super) fn positions(&self) -> u64 {
        self.positions
    }

    /// Connections that were lost and made again.
    pub(super) fn returns(&self) -> u64 {
        self.returns
    }

    /// Simulated buyers at that stage.
    pub(super) fn count(&self, stage: Stage) -> usize {
        self.people.iter().filter(|person| person.stage == stage).count()
    }

    fn advance(&mut self, buyer: usize, stage: Stage) {
        if self.people[buyer].stage != Stage::Gone {
            self.people[buyer].stage = stage;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(tell: impl FnOnce(&mut Books)) -> u64 {
        let mut books = Books::new(2);
        tell(&mut books);
        books.faults().1
    }

    #[test]
    fn a_place_that_changes_and_a_position_that_gets_worse_are_faults() {
        assert_eq!(
            faults(|books| {
                books.placed(0, None);
                books.position(0, 7);
                books.position(0, 7);
                books.position(0, 3);
                books.admitted(0, Some(8));
                books.placed(0, Some(8));
            }),
            0
        );
        assert_eq!(
            faults(|books| {
                books.position(0, 3);
                books.position(0, 4);
            }),
            1
        );
        assert_eq!(
            faults(|books| {
                books.placed(0, Some(3));
                books.placed(0, Some(4));
            }),
            1
        );
        assert_eq!(
            faults(|books| {
                books.placed(0, Some(3));
                books.placed(0, None);
            }),
            1
        );
    }

    #[test]
    fn a_seat_is_sold_once_and_its_buyer_hears_so_once() {
        let seat = || Some("A1".to_owned());
        let mut books = Books::new(2);
        books.promised("b", seat(), Some(0));
        assert_eq!((books.results(), books.sold()), ((0, 1), 1));
        books.heard(0, "b", seat());
        // Who is not simulated is believed; who is fast may hear first.
        books.promised("you", Some("A2".into()), None);
        books.heard(1, "early", None);
        books.promised("early", None, Some(1));
        assert_eq!((books.results(), books.count(Stage::Gone), books.faults().1), ((3, 3), 2, 0));

        books.heard(0, "b", seat());
        assert_eq!(books.faults().1, 1, "twice");
        books.promised("c", seat(), Some(1));
        assert_eq!(books.faults().1, 2, "sold twice");
        books.heard(0, "c", seat());
        assert_eq!(books.faults().1, 3, "to another");
        assert_eq!(books.results(), (3, 4), "and it is still missing");
        books.heard(1, "d", seat());
        books.promised("d", None, Some(1));
        assert_eq!(books.faults().1, 4, "another result");
    }

    #[test]
    fn books_of_the_gateway_that_do_not_add_up_are_a_fault() {
        let good =
            QueueResponse { total: 5, waiting: 2, admitted: 3, holding: 2, inside: 1, ..Default::default() };
        assert_eq!(faults(|books| books.queue(&good)), 0);
        assert_eq!(faults(|books| books.queue(&QueueResponse { holding: 1, ..good.clone() })), 1);
        assert_eq!(faults(|books| books.queue(&QueueResponse { waiting: 1, ..good.clone() })), 1);
    }
}

//! Time by the wall clock: when a schedule is open, whose turn it is.
//!
//! The engine knows no time zone and no calendar: the agent hands in functions of the wall clock. They
//! are asked once a step at most, and only by the step's own `now`, so a replay gives the same
//! answers.

use crate::model::{NotifierId, WallTime};
use crate::policy::{Policy, Rank, Recipient};
use crate::turn::Turn;
use std::sync::Arc;

/// `[[schedule]]` and `[[on_call]]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calendar {
    /// In the order of the file.
    pub schedules: Vec<Schedule>,
    /// In the order of the file.
    pub rotations: Vec<Rotation>,
}

/// One `[[schedule]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Its id.
    pub id: Arc<str>,
    /// Whether it is open.
    pub open: OfWall<bool>,
}

/// One `[[on_call]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotation {
    /// Its id.
    pub id: Arc<str>,
    /// In the order of their turns; never empty.
    pub members: Vec<NotifierId>,
    /// The place among `members` whose turn it is; taken modulo their number.
    pub turn: OfWall<usize>,
}

/// A function of the wall clock.
#[derive(Clone)]
pub struct OfWall<T> {
    /// For equality and printing: equal sources mean the same function.
    source: Arc<str>,
    function: Arc<dyn Fn(WallTime) -> T + std::marker::Send + Sync>,
}

impl<T> OfWall<T> {
    /// `source` says all that `function` depends on.
    pub fn new(
        source: impl Into<Arc<str>>,
        function: impl Fn(WallTime) -> T + std::marker::Send + Sync + 'static,
    ) -> Self {
        OfWall {
            source: source.into(),
            function: Arc::new(function),
        }
    }

    /// Its value at `wall`.
    pub fn at(&self, wall: WallTime) -> T {
        (self.function)(wall)
    }
}

impl<T> PartialEq for OfWall<T> {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl<T> std::fmt::Debug for OfWall<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.source)
    }
}

impl Calendar {
    /// The schedule of this id.
    pub fn schedule(&self, id: &str) -> Option<&Schedule> {
        self.schedules.iter().find(|schedule| &*schedule.id == id)
    }

    /// The rotation of this id.
    pub fn rotation(&self, id: &str) -> Option<&Rotation> {
        self.rotations.iter().find(|rotation| &*rotation.id == id)
    }
}

impl Rotation {
    /// Who is on call at `wall`. The secondary is whose turn comes next; with a single member it is
    /// the same one.
    pub fn on_duty(&self, rank: Rank, wall: WallTime) -> Option<&NotifierId> {
        let count = self.members.len();
        if count == 0 {
            return None;
        }
        let turn = self.turn.at(wall) % count;
        let place = match rank {
            Rank::Primary => turn,
            Rank::Secondary => (turn + 1) % count,
        };
        self.members.get(place)
    }
}

impl Recipient {
    /// Whether it means this notifier now, or may at another time.
    pub fn may_be(&self, policy: &Policy, notifier: &NotifierId) -> bool {
        match self {
            Recipient::Notifier(id) => id == notifier,
            Recipient::OnCall { rotation, .. } => policy
                .calendar
                .rotation(rotation)
                .is_some_and(|rotation| rotation.members.contains(notifier)),
        }
    }
}

/// As configuration writes it.
impl std::fmt::Display for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Recipient::Notifier(id) => write!(f, "{id}"),
            Recipient::OnCall { rotation, rank } => match rank {
                Rank::Primary => f.write_str(rotation),
                Rank::Secondary => write!(f, "{rotation}:secondary"),
            },
        }
    }
}

/// What the calendar says at the instant of one step; worked out when first asked for.
#[derive(Debug, Default)]
pub(crate) struct Hours {
    /// Ids of the schedules that are open.
    open: Vec<Arc<str>>,
    /// Of each rotation the primary and the secondary.
    duty: Vec<(Arc<str>, [Option<NotifierId>; 2])>,
}

impl Turn<'_> {
    fn hours(&self) -> &Hours {
        self.hours.get_or_init(|| {
            let schedules = self.policy.calendar.schedules.iter();
            let open = schedules.filter(|schedule| schedule.open.at(self.now.wall));
            let rotations = self.policy.calendar.rotations.iter();
            let on_duty = |rotation: &Rotation| {
                [Rank::Primary, Rank::Secondary]
                    .map(|rank| rotation.on_duty(rank, self.now.wall).cloned())
            };
            Hours {
                duty: rotations.map(|r| (r.id.clone(), on_duty(r))).collect(),
                open: open.map(|schedule| schedule.id.clone()).collect(),
            }
        })
    }

    /// The notifier that is meant now.
    pub(crate) fn meant(&self, recipient: &Recipient) -> Option<NotifierId> {
        match recipient {
            Recipient::Notifier(id) => Some(id.clone()),
            Recipient::OnCall { rotation, rank } => {
                let duty = &self.hours().duty;
                let (_, both) = duty.iter().find(|(id, _)| id == rotation)?;
                both[*rank as usize].clone()
            }
        }
    }

    /// Whether the schedule is open now. One that does not exist never is.
    pub(crate) fn is_open(&self, schedule: &str) -> bool {
        self.hours().open.iter().any(|id| &**id == schedule)
    }
}

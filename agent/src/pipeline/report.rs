//! What comes back to the alert stage from the hands, and how it goes into the engine.

use watchfire_engine::Input;
use watchfire_engine::input::{ActionReport, Condition, DeliveryReport};

/// Reports of one batch: what a full channel holds. More would keep rounds and operators waiting.
const REPORTS_AT_ONCE: usize = 256;

/// What comes back from the hands.
#[derive(Debug)]
pub(super) enum Report {
    /// From deliver.
    Delivery(DeliveryReport),
    /// From recover.
    Action(ActionReport),
    /// From the stage itself, about the store.
    Condition(Condition),
}

/// The reports that are there, in their order; those of deliveries that follow each other as one
/// input, so that a storm costs a commit a batch and not one a message.
pub(super) fn together(first: Report, mut more: impl FnMut() -> Option<Report>) -> Vec<Input> {
    let mut inputs = Vec::new();
    let mut taken = 0;
    let mut next = Some(first);
    while let Some(report) = next {
        match (report, inputs.last_mut()) {
            (Report::Delivery(report), Some(Input::Deliveries(reports))) => reports.push(report),
            (Report::Delivery(report), _) => inputs.push(Input::Deliveries(vec![report])),
            (Report::Action(report), _) => inputs.push(Input::Action(report)),
            (Report::Condition(condition), _) => inputs.push(Input::Condition(condition)),
        }
        taken += 1;
        next = if taken < REPORTS_AT_ONCE {
            more()
        } else {
            None
        };
    }
    inputs
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use watchfire_engine::input::{ActionOutcome, DeliveryOutcome};
    use watchfire_engine::model::{Fingerprint, Labels, NotificationId, RuleId};

    fn delivery(attempt: u32) -> Report {
        Report::Delivery(DeliveryReport {
            id: NotificationId::new("n"),
            attempt,
            outcome: DeliveryOutcome::Accepted { remote_id: None },
        })
    }

    fn action(attempt: u32) -> Report {
        Report::Action(ActionReport {
            procedure: "fix".into(),
            alert: Fingerprint::of(&RuleId::new("cpu"), &Labels::default()),
            attempt,
            outcome: ActionOutcome::Failed {
                message: "no".to_owned(),
            },
        })
    }

    /// `d` and `a` with the numbers of their attempts.
    fn shape(inputs: &[Input]) -> String {
        let one = |input: &Input| match input {
            Input::Deliveries(reports) => {
                let attempts = reports.iter().map(|report| report.attempt.to_string());
                format!("d{}", attempts.collect::<Vec<_>>().join(","))
            }
            Input::Action(report) => format!("a{}", report.attempt),
            other => format!("{other:?}"),
        };
        inputs.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn deliveries_that_follow_each_other_are_one_input() {
        let mut rest = VecDeque::from([delivery(2), action(3), delivery(4), delivery(5)]);
        let inputs = together(delivery(1), || rest.pop_front());
        assert_eq!(shape(&inputs), "d1,2 a3 d4,5");
        assert_eq!(shape(&together(action(1), || None)), "a1");
    }

    #[test]
    fn a_batch_is_bounded_and_loses_nothing() {
        let mut left = 1_000;
        let mut more = || {
            left -= 1;
            Some(delivery(left))
        };
        let inputs = together(delivery(1_000), &mut more);
        let [Input::Deliveries(reports)] = &inputs[..] else {
            panic!("one input")
        };
        assert_eq!(reports.len(), REPORTS_AT_ONCE);
        assert_eq!(
            reports.last().map(|report| report.attempt),
            Some(left),
            "nothing was taken that is not in the batch"
        );
    }
}

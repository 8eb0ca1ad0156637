//! What to do about an error of a cluster.
//!
//! Owns: the words that follow what went wrong.
//! Does not own: what went wrong (`esker_kafka_client::Error`).

use esker_kafka::ErrorCode;
use esker_kafka_client::{Client, Error};

/// How different a name may be from one that exists, for it to be suggested: a third of its letters.
const LETTERS_PER_SLIP: usize = 3;
const OUTCOME_UNKNOWN: &str = "whether it was carried out is not known; look before trying again";

/// What to do about an error, if it is one of a cluster and there is something to be done.
pub(crate) fn of(error: &anyhow::Error) -> Option<String> {
    let error = error.chain().find_map(|cause| cause.downcast_ref::<Error>())?;
    let advice = match error {
        Error::Unreachable { tried } if tried.len() == 1 => {
            "is a broker running there? `esker dev` starts one on 127.0.0.1:9092; --bootstrap names another".to_owned()
        }
        Error::Unreachable { .. } => "is one of them running? --bootstrap names others".to_owned(),
        Error::Connect { address, .. } => format!(
            "the cluster says that a broker is at {address}; if that is not where it is seen from here, --advertise tells an agent \
             what to say"
        ),
        Error::Garbled { address, .. } | Error::Lost { address, .. } => {
            format!(
                "does {address} speak the Kafka protocol, without TLS? the line that `esker dev` prints says which port does"
            )
        }
        Error::Late { .. } => OUTCOME_UNKNOWN.to_owned(),
        Error::Unsupported { .. } => "the broker is too old or too new for this command".to_owned(),
        Error::Refused(refusal) => return refused(refusal.known()?).map(str::to_owned),
        Error::Unwritable { .. } => return None,
    };
    Some(advice)
}

fn refused(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::RequestTimedOut | ErrorCode::NetworkException => OUTCOME_UNKNOWN,
        ErrorCode::TopicAlreadyExists => "--if-not-exists takes it as it is; `esker topic alter` changes it",
        ErrorCode::InvalidTopic => "a name has 1 to 249 of the characters a-z A-Z 0-9 . _ -",
        ErrorCode::InvalidConfig => "`esker topic describe TOPIC --all` shows the configs of a topic",
        ErrorCode::NonEmptyGroup | ErrorCode::UnknownMemberId | ErrorCode::RebalanceInProgress => {
            "stop its members first; `esker group describe GROUP` shows them"
        }
        ErrorCode::GroupIdNotFound => "`esker group list` shows which there are",
        ErrorCode::CoordinatorNotAvailable | ErrorCode::CoordinatorLoadInProgress => "try again in a moment",
        _ => return None,
    })
}

/// The error that a topic does not exist, with the one that was probably meant.
pub(crate) async fn unknown_topic(client: &Client, name: &str) -> anyhow::Error {
    let topics = client.topics().await.unwrap_or_default();
    let names = topics.iter().map(|topic| topic.name.as_str());
    anyhow::anyhow!("there is no topic {name}; {}", alternative(name, names, "topic"))
}

/// Which name was probably meant, or where to find one.
pub(crate) fn alternative<'a>(name: &str, names: impl Iterator<Item = &'a str>, kind: &str) -> String {
    match nearest(name, names) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("`esker {kind} list` shows which there are"),
    }
}

/// The name that is nearest, if it is near.
pub(crate) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let slips = names.map(|one| (strsim::damerau_levenshtein(name, one), one));
    let (slips, nearest) = slips.min()?;
    (slips * LETTERS_PER_SLIP <= name.chars().count()).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let names = ["flights", "orders"];
        assert_eq!(nearest("flihgts", names.into_iter()), Some("flights"));
        assert_eq!(nearest("planes", names.into_iter()), None);
        assert_eq!(nearest("x", [].into_iter()), None);
    }

    #[test]
    fn somebody_who_reaches_nobody_is_told_what_to_start() {
        let error = Error::Unreachable {
            tried: vec![(
                esker_kafka_client::HostPort::parse("h:1").unwrap(),
                "refused".to_owned(),
            )],
        };
        let error = anyhow::Error::from(error).context("cannot list topics");
        assert!(of(&error).unwrap().contains("`esker dev` starts one"));
        assert_eq!(of(&anyhow::anyhow!("something else")), None);
    }
}

//! What the agent told of an event, as its journal entry has it.

use serde::Deserialize;

use super::entry::Text;

/// An event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its number; grows over all agents of the host.
    pub(crate) number: u64,
    /// The service; empty for the host.
    pub(crate) service: String,
    /// What happened, in one word.
    pub(crate) word: String,
    /// The generation that was current.
    pub(crate) generation: u64,
    /// Who caused it: a user, or `agent`.
    pub(crate) by: String,
    /// What they asked for, or why the agent acts; may be empty.
    pub(crate) cause: String,
    /// What has the same came of one request, or of one start of the agent; 0: of none.
    pub(crate) request: u64,
    /// The services that it needs, each with the condition.
    pub(crate) needs: Vec<(String, String)>,
}

/// What is read of an entry; a field that is not there is empty.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    #[serde(rename = "NIXMOX_NUMBER")]
    number: Text,
    #[serde(rename = "NIXMOX_SERVICE")]
    service: Text,
    #[serde(rename = "NIXMOX_EVENT")]
    event: Text,
    #[serde(rename = "NIXMOX_GENERATION")]
    generation: Text,
    #[serde(rename = "NIXMOX_BY")]
    by: Text,
    #[serde(rename = "NIXMOX_CAUSE")]
    cause: Text,
    #[serde(rename = "NIXMOX_REQUEST")]
    request: Text,
    #[serde(rename = "NIXMOX_NEEDS")]
    needs: Text,
}

impl Event {
    /// Returns how much memory its texts take.
    pub(super) fn bytes(&self) -> usize {
        let needs = self.needs.iter().map(|(name, condition)| name.len() + condition.len()).sum::<usize>();
        [&self.service, &self.word, &self.by, &self.cause].into_iter().map(String::len).sum::<usize>() + needs
    }

    /// Reads a line of the agent's journal; `None`: it is about no event.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let fields: Fields = serde_json::from_slice(line).ok()?;
        let needs = fields.needs.0.split(' ').filter_map(|need| need.split_once(':'));
        Some(Self {
            number: fields.number.0.parse().ok()?,
            service: fields.service.0,
            word: fields.event.0,
            generation: fields.generation.0.parse().unwrap_or_default(),
            by: fields.by.0,
            cause: fields.cause.0,
            request: fields.request.0.parse().unwrap_or_default(),
            needs: needs.map(|(name, condition)| (name.to_owned(), condition.to_owned())).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_from_its_fields() {
        let line = br#"{"MESSAGE":"web: starting","NIXMOX_NUMBER":"7","NIXMOX_SERVICE":"web","NIXMOX_EVENT":"starting","NIXMOX_GENERATION":"3","NIXMOX_BY":"anna","NIXMOX_CAUSE":"up","NIXMOX_REQUEST":"5","NIXMOX_NEEDS":"db:healthy cache:started"}"#;
        let needs = [("db", "healthy"), ("cache", "started")].map(|(name, on)| (name.to_owned(), on.to_owned()));
        let event = Event {
            number: 7,
            service: "web".to_owned(),
            word: "starting".to_owned(),
            generation: 3,
            by: "anna".to_owned(),
            cause: "up".to_owned(),
            request: 5,
            needs: needs.to_vec(),
        };
        assert_eq!(Event::parse(line), Some(event));
        assert_eq!(Event::parse(br#"{"MESSAGE":"serving","NIXMOX_EVENT":"start"}"#), None, "it has no number");
    }
}

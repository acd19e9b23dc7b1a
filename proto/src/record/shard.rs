//! Broadcasts: one run for each client, and the document of the run that they are the parts of.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Outcome, Snapshot};
use crate::name::ClientId;
use crate::run_id::RunId;
use crate::time::Instant;

/// A broadcast goes to at most this many clients. Where there are more, it fails instead of leaving some out.
pub const MAX_SHARDS: u32 = 500;

/// The parameters of all shards of a job have at most this many bytes together.
pub const MAX_SHARD_PARAMS: usize = 16 * 1024;

/// Which part of a broadcast a run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "rest", derive(utoipa::ToSchema))]
pub struct Shard {
    /// Its number, from 0.
    pub index: u32,
    /// How many there are.
    pub total: u32,
    /// The run they are the parts of.
    pub parent: RunId,
    /// What the job gives to the shard with this index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<String>,
    /// The client it was made for. It goes to another one only when this one is gone, drains, or does not serve the
    /// target any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientId>,
}

/// What a job gives to single shards, by their index. In JSON an object; read also from text, such as
/// `0=Beijing,1=Shanghai`. A value with a comma in it needs the object.
///
/// ```
/// use forest_proto::record::ShardParams;
/// let params: ShardParams = "0=Beijing, 1=Shanghai".parse().unwrap();
/// assert_eq!(params.get(1), Some("Shanghai"));
/// assert_eq!(params, serde_json::from_str(r#"{"0":"Beijing","1":"Shanghai"}"#).unwrap());
/// assert_eq!(params.to_string(), "0=Beijing,1=Shanghai");
/// assert!("Beijing".parse::<ShardParams>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "rest", derive(utoipa::ToSchema), schema(value_type = BTreeMap<u32, String>))]
pub struct ShardParams(BTreeMap<u32, String>);

/// Text that is not parameters of shards.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{shown:?} {reason}: write index=value, with commas between, such as 0=Beijing,1=Shanghai")]
pub struct ShardParamsError {
    shown: String,
    reason: &'static str,
}

impl ShardParams {
    /// Whether no shard is given anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a shard is given.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&str> {
        self.0.get(&index).map(String::as_str)
    }

    /// All of them, by index.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        self.0.iter().map(|(index, value)| (*index, value.as_str()))
    }

    /// How many bytes the values have together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.values().map(String::len).sum()
    }

    fn insert(&mut self, index: &str, value: String) -> Result<(), ShardParamsError> {
        let refuse = |reason| ShardParamsError { shown: index.chars().take(40).collect(), reason };
        let number: u32 = index.trim().parse().map_err(|_| refuse("is not the index of a shard"))?;
        match self.0.insert(number, value) {
            None => Ok(()),
            Some(_) => Err(refuse("is given twice")),
        }
    }
}

impl<const N: usize> From<[(u32, String); N]> for ShardParams {
    fn from(values: [(u32, String); N]) -> Self {
        Self(values.into())
    }
}

impl FromStr for ShardParams {
    type Err = ShardParamsError;
    fn from_str(text: &str) -> Result<Self, ShardParamsError> {
        let mut params = Self::default();
        for item in text.split(',').filter(|_| !text.trim().is_empty()) {
            let missing =
                || ShardParamsError { shown: item.chars().take(40).collect(), reason: "has no value" };
            let (index, value) = item.split_once('=').ok_or_else(missing)?;
            params.insert(index, value.trim().to_owned())?;
        }
        Ok(params)
    }
}

impl fmt::Display for ShardParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (index, value)) in self.0.iter().enumerate() {
            write!(f, "{}{index}={value}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl Serialize for ShardParams {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ShardParams {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Keys as text: within a flattened document they are nothing else.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Given {
            Text(String),
            Map(BTreeMap<String, String>),
        }
        let wrong = serde::de::Error::custom;
        match Option::<Given>::deserialize(deserializer)? {
            None => Ok(Self::default()),
            Some(Given::Text(text)) => text.parse().map_err(wrong),
            Some(Given::Map(map)) => {
                let mut params = Self::default();
                map.into_iter().try_for_each(|(index, value)| params.insert(&index, value)).map_err(wrong)?;
                Ok(params)
            }
        }
    }
}

/// `server/spread/{group}/{run}`: a broadcast, from the creation of its shards to the end of the last one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The run as it was parked.
    pub snapshot: Snapshot,
    /// When its shards were created.
    pub spread_at: Instant,
    /// For whom each shard is, by index.
    pub clients: Vec<ClientId>,
    /// How many of the shards have been created: those with a smaller index.
    pub created: u32,
    /// How those ended that have ended for good.
    #[serde(default)]
    pub ended: BTreeMap<u32, Outcome>,
    /// Why no shard is to go on, if that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<String>,
}

impl Spread {
    /// How many shards there are.
    #[must_use]
    pub fn total(&self) -> u32 {
        u32::try_from(self.clients.len()).unwrap_or(u32::MAX)
    }

    /// What the shard with an index is.
    #[must_use]
    pub fn shard(&self, index: u32) -> Shard {
        Shard {
            index,
            total: self.total(),
            parent: self.snapshot.id.clone(),
            params: self.snapshot.shard_params.get(index).map(str::to_owned),
            client: self.clients.get(index as usize).cloned(),
        }
    }

    /// Whether shards are still to be created.
    #[must_use]
    pub fn is_creating(&self) -> bool {
        self.stopping.is_none() && self.created < self.total()
    }

    /// Whether every shard that there will ever be has ended for good.
    #[must_use]
    pub fn is_over(&self) -> bool {
        !self.is_creating() && self.ended.len() == self.created as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Execution, decode, encode};

    #[test]
    fn parameters_of_shards_are_read_or_refused_with_the_reason() {
        let read = |text: &str| text.parse::<ShardParams>();
        assert_eq!(read("0=a=b, 7 = c ").expect("reads").to_string(), "0=a=b,7=c");
        assert!(read("").expect("reads").is_empty() && read(" ").expect("reads").is_empty());
        for (text, part) in
            [("a", "no value"), ("x=a", "not the index"), ("1=a,1=b", "twice"), ("1=a,", "no value")]
        {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains(part) && error.contains("0=Beijing"), "{error}");
        }
        assert!(decode::<ShardParams>(br#"{"1":"a","01":"b"}"#).is_err());
        assert!(decode::<ShardParams>(b"null").expect("reads").is_empty());
    }

    #[test]
    fn parameters_of_shards_survive_within_a_flattened_document() {
        let text = br#"{"id":"20261118110640000-j1-1","jobId":"j1","group":"trade","target":"pay",
            "routing":"broadcast","shard_params":{"0":"Beijing","10":"Shanghai"}}"#;
        let execution = Execution::claimed(decode(text).expect("reads"), Instant::from_ms(1_795_000_000_000));
        assert_eq!(decode::<Execution>(&encode(&execution)).expect("reads"), execution);
        assert!(execution.snapshot.is_broadcast());
        let spread = Spread {
            snapshot: execution.snapshot,
            spread_at: Instant::from_ms(1_795_000_000_000),
            clients: vec![ClientId::new("c-1").expect("valid"), ClientId::new("c-2").expect("valid")],
            created: 2,
            ended: [(1, Outcome::Failed)].into(),
            stopping: None,
        };
        assert_eq!(decode::<Spread>(&encode(&spread)).expect("reads"), spread);
        assert_eq!((spread.shard(0).params.as_deref(), spread.is_over()), (Some("Beijing"), false));
    }
}

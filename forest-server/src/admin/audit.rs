//! Every change is written down in the transaction that makes it: who, when, from where, what.

use std::collections::BTreeMap;

use forest_etcd::Txn;
use forest_proto::GroupName;
use forest_proto::record::{Audit, Change, encode};
use serde::Serialize;
use serde_json::Value;

use super::Admin;
use super::write::random_key;

/// A transaction that says what it does. Nothing else is committed.
pub(super) struct Audited(pub(super) Txn);

/// What is done to what.
pub(super) struct Deed<'a> {
    pub(super) action: &'static str,
    pub(super) target: &'a str,
    pub(super) group: Option<&'a GroupName>,
    pub(super) changes: BTreeMap<String, Change>,
}

impl<'a> Deed<'a> {
    pub(super) fn new(action: &'static str, target: &'a str, group: Option<&'a GroupName>) -> Self {
        Self { action, target, group, changes: BTreeMap::new() }
    }

    /// With the fields in which two documents differ.
    pub(super) fn changing<T: Serialize>(self, before: Option<&T>, after: Option<&T>) -> Self {
        Self { changes: differences(before, after), ..self }
    }

    pub(super) fn saying(mut self, field: &str, to: impl Into<Value>) -> Self {
        self.changes.insert(field.into(), Change { from: Value::Null, to: to.into() });
        self
    }
}

impl Admin {
    /// The transaction with the record of what it does.
    pub(super) fn audited(&self, txn: Txn, deed: Deed<'_>) -> Audited {
        let at = self.now();
        let audit = Audit {
            at,
            who: self.caller.who.to_string(),
            from: self.caller.from.clone(),
            face: self.caller.face,
            action: deed.action.into(),
            target: deed.target.into(),
            group: deed.group.cloned(),
            changes: deed.changes,
        };
        Audited(txn.put(self.inner.keys.audit(at, &random_key()), encode(&audit)))
    }
}

fn differences<T: Serialize>(before: Option<&T>, after: Option<&T>) -> BTreeMap<String, Change> {
    let fields = |document: Option<&T>| match document.map(serde_json::to_value) {
        Some(Ok(Value::Object(fields))) => fields,
        _ => serde_json::Map::new(),
    };
    let (before, mut after) = (fields(before), fields(after));
    let mut changes = BTreeMap::new();
    for (name, from) in before {
        let to = after.remove(&name).unwrap_or_default();
        if from != to {
            changes.insert(name, Change { from, to });
        }
    }
    let added = after.into_iter().map(|(name, to)| (name, Change { from: Value::Null, to }));
    changes.extend(added);
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_differs_is_written_down() {
        let (before, after) = (json!({"a": 1, "b": 2, "c": 3}), json!({"a": 1, "b": 5, "d": 4}));
        let changes = differences(Some(&before), Some(&after));
        let shown = serde_json::to_value(changes).expect("JSON");
        let expected = json!({
            "b": {"from": 2, "to": 5}, "c": {"from": 3, "to": null}, "d": {"from": null, "to": 4}
        });
        assert_eq!(shown, expected);
        assert!(differences(Some(&before), Some(&before)).is_empty());
        assert_eq!(differences(None, Some(&before)).len(), 3);
    }
}

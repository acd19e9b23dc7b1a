//! Draining: somebody says that a client is to get no new runs. It finishes what it runs; what it has not begun goes
//! elsewhere.
//!
//! The document hangs on the lease of the client's registration: it ends with that, and says nothing of a client that
//! registers anew. A registration without a lease is drained until somebody says otherwise.

use forest_etcd::{KeyValue, Txn};
use forest_proto::record::{Drain, Role, encode};
use forest_proto::{ClientId, GroupName};

use super::audit::Deed;
use super::cluster::{ClientSummary, client_summary};
use super::write::Written;
use super::{Admin, AdminError};

impl Admin {
    /// Drains a client; one that is drained already stays so.
    pub(crate) async fn drain_client(&self, group: &str, client: &str) -> Result<ClientSummary, AdminError> {
        let (group, client) = self.seat(group, client)?;
        let (registered, drain) = self.client_keys(&group, &client).await?;
        let Some(registered) = registered else {
            return Err(AdminError::not_found("client", client.as_str()));
        };
        if drain.is_none() {
            let key = self.inner.keys.drain(&group, &client);
            let value = encode(&Drain { at: self.now(), by: self.caller.who.to_string() });
            let txn = Txn::new().absent(key.clone()).created(registered.key, registered.create_revision);
            let txn = match registered.lease {
                0 => txn.put(key.clone(), value.clone()),
                lease => txn.put_leased(key.clone(), value.clone(), lease),
            };
            let deed = Deed::new("client.drain", client.as_str(), Some(&group));
            let txn = self.audited(txn.or_get(key), deed);
            match self.commit(txn).await? {
                Written::Done => {}
                // Somebody else was as fast.
                Written::Refused(found) if found.iter().any(Option::is_some) => {}
                Written::Refused(_) => return Err(AdminError::not_found("client", client.as_str())),
            }
        }
        self.client(&group, &client).await
    }

    /// Gives a client runs again; one that gets them stays so.
    pub(crate) async fn undrain_client(
        &self,
        group: &str,
        client: &str,
    ) -> Result<ClientSummary, AdminError> {
        let (group, client) = self.seat(group, client)?;
        let (registered, drain) = self.client_keys(&group, &client).await?;
        if registered.is_none() && drain.is_none() {
            return Err(AdminError::not_found("client", client.as_str()));
        }
        if let Some(drain) = drain {
            let key = drain.key;
            let txn = Txn::new().modified(key.clone(), drain.mod_revision).delete(key.clone()).or_get(key);
            let deed = Deed::new("client.undrain", client.as_str(), Some(&group));
            let txn = self.audited(txn, deed);
            match self.commit(txn).await? {
                Written::Done => {}
                // The lease, or somebody else, was as fast.
                Written::Refused(found) if found.iter().all(Option::is_none) => {}
                Written::Refused(_) => return Err(AdminError::Conflict { what: format!("client {client}") }),
            }
        }
        self.client(&group, &client).await
    }

    fn seat(&self, group: &str, client: &str) -> Result<(GroupName, ClientId), AdminError> {
        let group = GroupName::new(group).map_err(|error| AdminError::invalid("group", error.to_string()))?;
        self.require_in(Role::Operator, &group)?;
        let client = ClientId::new(client).map_err(|_| AdminError::not_found("client", client))?;
        Ok((group, client))
    }

    /// The registration and the drain, as etcd has them: the view does not keep their leases.
    async fn client_keys(
        &self,
        group: &GroupName,
        client: &ClientId,
    ) -> Result<(Option<KeyValue>, Option<KeyValue>), AdminError> {
        let keys = [self.inner.keys.client(group, client), self.inner.keys.drain(group, client)];
        let (_, found) = self.inner.store.get_many(&keys).await?;
        let mut found = found.into_iter();
        Ok((found.next().flatten(), found.next().flatten()))
    }

    async fn client(&self, group: &GroupName, client: &ClientId) -> Result<ClientSummary, AdminError> {
        let seat = (group.clone(), client.clone());
        let found = self.read(move |now| {
            let entry = now.view.clients.get(&seat)?;
            Some(client_summary(now.view, &seat.0, &seat.1, &entry.value))
        });
        found.await?.ok_or_else(|| AdminError::not_found("client", client.as_str()))
    }
}

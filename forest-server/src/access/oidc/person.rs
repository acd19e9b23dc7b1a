//! Who is meant by a provider's claims, and what they may do.

use std::collections::BTreeMap;
use std::str::FromStr;

use forest_proto::record::{Grants, Role};
use forest_proto::{GroupName, UserName};
use serde_json::Value;

use super::token::Claims;
use super::{OidcError, OidcSettings, Person};

/// Which roles a value of the claim brings: `ops=admin, dev=viewer, billing=editor:billing`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleMap(BTreeMap<String, Vec<(Role, Option<GroupName>)>>);

impl FromStr for RoleMap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut map: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (value, role) = entry
                .rsplit_once('=')
                .ok_or_else(|| format!("{entry:?} must look like VALUE=ROLE or VALUE=ROLE:GROUP"))?;
            let (role, group) =
                role.split_once(':').map_or((role, None), |(role, group)| (role, Some(group)));
            let role: Role = role.trim().parse().map_err(|error| format!("{entry:?}: {error}"))?;
            let group = group.map(|group| GroupName::new(group.trim())).transpose();
            let group = group.map_err(|error| format!("{entry:?}: {error}"))?;
            if value.trim().is_empty() {
                return Err(format!("{entry:?} names no value"));
            }
            map.entry(value.trim().to_owned()).or_default().push((role, group));
        }
        if map.is_empty() { Err("names no role".into()) } else { Ok(Self(map)) }
    }
}

impl RoleMap {
    /// What these values bring together.
    fn grants<'a>(&self, values: impl Iterator<Item = &'a str>) -> Grants {
        let mut grants = Grants::default();
        for (role, group) in values.filter_map(|value| self.0.get(value)).flatten() {
            match group {
                None => grants.everywhere = grants.everywhere.max(Some(*role)),
                Some(group) => {
                    let known = grants.groups.entry(group.clone()).or_insert(*role);
                    *known = (*known).max(*role);
                }
            }
        }
        grants
    }
}

pub(super) fn of(claims: &Claims, settings: &OidcSettings) -> Result<Person, OidcError> {
    let refused = |why: String| Err(OidcError::Refused(why));
    let text = |claim: &str| claims.rest.get(claim).and_then(Value::as_str);
    let name = match &settings.email_domain {
        None if settings.user_claim == "sub" => claims.sub.as_str(),
        None => match text(&settings.user_claim) {
            Some(name) => name,
            None => return refused(format!("the provider says no {}", settings.user_claim)),
        },
        Some(domain) => {
            if claims.rest.get("email_verified") != Some(&Value::Bool(true)) {
                return refused("the provider has not verified the email address".into());
            }
            match text("email").and_then(|email| email.rsplit_once('@')) {
                Some((name, of)) if of.eq_ignore_ascii_case(domain) => name,
                _ => return refused(format!("the email address is none of {domain}")),
            }
        }
    };
    let name = match UserName::new(name) {
        Ok(name) => name,
        Err(error) => return refused(format!("the provider's name for you cannot be one here: {error}")),
    };
    let grants = settings.roles.as_ref().map(|roles| {
        let values = match claims.rest.get(&settings.roles_claim) {
            Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(value)) => vec![value.as_str()],
            _ => Vec::new(),
        };
        roles.grants(values.into_iter())
    });
    if grants.as_ref().is_some_and(|grants| *grants == Grants::default()) {
        return refused(format!("the provider gives {name} no role here: see oidc_roles"));
    }
    Ok(Person { name, subject: claims.sub.clone(), grants })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_bring_roles_everywhere_or_in_a_group() {
        let map: RoleMap = "ops = admin, dev=viewer, dev=editor:billing".parse().expect("valid");
        let grants = |values: &[&str]| map.grants(values.iter().copied());
        let billing = GroupName::new("billing").expect("valid");
        let dev = grants(&["dev", "others"]);
        assert_eq!((dev.everywhere, dev.groups.get(&billing)), (Some(Role::Viewer), Some(&Role::Editor)));
        assert_eq!(grants(&["dev", "ops"]).everywhere, Some(Role::Admin));
        assert_eq!(grants(&["nobody"]), Grants::default());
        for wrong in ["", "ops", "ops=king", "=admin", "ops=admin:no/slash"] {
            assert!(wrong.parse::<RoleMap>().is_err(), "{wrong:?}");
        }
    }
}

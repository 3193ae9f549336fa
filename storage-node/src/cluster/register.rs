//! Which groups a node has by the map that it has carried out: what it tells the leaders of groups that want to make it a
//! member, and what keeps a group from being forgotten while somebody makes this node a member of it.
//!
//! A node forgets a group in this order: the register lacks the group, then the group's leader says that the node is no
//! member, then the group is destroyed. A leader makes a node a member in this order, under [`Register::membership`]: the
//! node's register has the group, then the change is proposed and applied. It answers who the members are under the same
//! lock. So either the node finds itself a member, or the leader finds it without the group.

use std::collections::BTreeSet;

use annulus_common::ids::{Epoch, GroupId};
use parking_lot::Mutex;

/// What of the map is carried out.
#[derive(Default)]
pub struct Register {
    carried_out: Mutex<CarriedOut>,
    /// Held while this node changes the members of groups that it leads, and while it says who they are.
    pub membership: tokio::sync::Mutex<()>,
}

/// An epoch and the groups that it gave to the node.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct CarriedOut {
    /// The epoch.
    pub epoch: Epoch,
    /// Its groups, all of which run.
    pub groups: BTreeSet<GroupId>,
}

impl Register {
    /// The node has started the groups of an epoch, and is about to forget others.
    pub fn carry_out(&self, epoch: Epoch, groups: BTreeSet<GroupId>) {
        *self.carried_out.lock() = CarriedOut { epoch, groups };
    }

    /// What the node has carried out.
    pub fn carried_out(&self) -> CarriedOut {
        self.carried_out.lock().clone()
    }
}

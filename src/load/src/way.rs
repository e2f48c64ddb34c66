//! Who takes part in a transfer and what moves in it.

use std::{ops::Range, sync::Arc};

use pybundle_bundle::Index;

use crate::{
    Result,
    fill::Fill,
    nodes::Wants,
    plan::{Opened, Plan},
    transport::{self, Group, Pace, Transport, Wait},
};

/// The bytes that somebody needs, and the group in which they move.
pub(crate) struct Way {
    /// Root and the leaders that want something; `None` on other ranks.
    pub(crate) group: Option<Group>,
    /// What any of them wants.
    pub(crate) bytes: Range<u64>,
    /// Index and manifest, where somebody wants them.
    pub(crate) head: Option<Vec<u8>>,
}

/// Root's file, and the index it must agree with.
pub(crate) type Source = (fs_err::File, Option<Arc<Index<Vec<u8>>>>);

impl Fill<'_, '_> {
    /// Who takes part in the transfer, what moves in it, and the index for those who need it.
    pub(crate) fn find_way(&mut self, opened: Option<Opened>) -> Result<(Way, Option<Source>)> {
        let what = "the leaders of the nodes";
        let (plan, wants) = (self.plan, self.wants);
        let rank = self.transport.rank(Group::WORLD);
        let color = (rank == 0 || wants.hot || wants.cold).then_some(0);
        let group = self.collective(what, |transport, wait| {
            transport.split(Group::WORLD, color, rank, wait)
        })?;
        let mut way = Way {
            group,
            bytes: 0..0,
            head: None,
        };
        let source = |opened: Option<Opened>| {
            let Opened { file, head } = opened?;
            Some((file, head.map(|head| Arc::new(head.index))))
        };
        let Some(group) = group else {
            return Ok((way, source(opened)));
        };
        let lowest = |fill: &mut Self, code: u64, sign: i64| -> Result<u64> {
            let code = code.cast_signed() * sign;
            let lowest =
                fill.collective(what, |transport, wait| transport.lowest(group, code, wait))?;
            Ok(lowest.code.unsigned_abs())
        };
        let bytes = wanted(plan, wants);
        // The directory travels too if the bytes before it do: all of the bundle is compared.
        let end = if wants.cold {
            plan.sizes.file_len
        } else {
            bytes.end
        };
        let start = lowest(self, bytes.start, 1)?;
        let end = lowest(self, end, -1)?;
        let index_wanted = lowest(self, u64::from(wants.hot), -1)? != 0;
        if start >= end {
            return Ok((way, source(opened)));
        }
        let (opened, ready) = self.read_head(opened);
        let mut ready = [u8::from(ready)];
        self.collective(what, |transport, wait| {
            transport.broadcast(group, 0, &mut ready, wait)
        })?;
        if ready == [0] {
            self.filled.job.fail(false);
            return Ok((way, None));
        }
        way.bytes = start..end;
        if index_wanted {
            let len = plan.head_len() as usize;
            let mut head = match opened.as_ref().and_then(|opened| opened.head.as_ref()) {
                Some(head) => [head.index.bytes(), &head.manifest_bytes].concat(),
                None => vec![0; len],
            };
            self.collective("the index", |transport, wait| {
                transport.broadcast(group, 0, &mut head, wait)
            })?;
            way.head = Some(head);
        }
        Ok((way, source(opened)))
    }

    /// Root reads index and manifest, unless it has; true if this rank can go on.
    fn read_head(&mut self, opened: Option<Opened>) -> (Option<Opened>, bool) {
        let Some(opened) = opened else {
            return (None, true);
        };
        let plan = self.plan.clone();
        let read = move || opened.read(&plan);
        match self.patience.beside("the index to be read", read) {
            Ok(opened) => {
                self.filled.head_len = self.plan.head_len();
                (Some(opened), true)
            }
            Err(error) => {
                self.filled.fail(error);
                (None, false)
            }
        }
    }

    fn collective<R>(
        &mut self,
        what: &'static str,
        call: impl FnOnce(&mut dyn Transport, &mut Wait<'_>) -> transport::Result<R>,
    ) -> Result<R> {
        let transport = &mut *self.transport;
        self.patience
            .collective(what, Pace::Sleep, |wait| call(transport, wait))
    }
}

/// The bytes of the bundle that a node wants; an empty range far behind its end if none.
pub(crate) fn wanted(plan: &Plan, wants: Wants) -> Range<u64> {
    let sizes = &plan.sizes;
    match (wants.hot, wants.cold) {
        (true, true) => 0..sizes.data_end,
        (true, false) => 0..sizes.load_end,
        (false, true) => sizes.cold_start..sizes.data_end,
        (false, false) => sizes.file_len..0,
    }
}

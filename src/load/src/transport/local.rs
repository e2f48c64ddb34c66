//! A job of one process: every collective call is a group of one.

use super::{Error, Flavour, Group, Lowest, Result, ThreadLevel, Transport, Wait};

/// The transport where there is no launcher: rank 0 of 1, without MPI.
#[derive(Debug, Default)]
pub struct Local {
    /// Groups handed out so far, beside the world.
    groups: u32,
}

impl Local {
    /// The single process's transport.
    pub fn new() -> Self {
        Self::default()
    }

    fn group(&mut self) -> Group {
        self.groups += 1;
        Group(self.groups)
    }

    fn check_root(root: u32) -> Result<()> {
        if root == 0 {
            Ok(())
        } else {
            Err(Error::NoSuchRank {
                rank: root,
                size: 1,
            })
        }
    }
}

impl Transport for Local {
    fn library(&self) -> &'static str {
        "none"
    }

    fn flavour(&self) -> Option<Flavour> {
        None
    }

    fn thread_level(&self) -> ThreadLevel {
        ThreadLevel::Multiple
    }

    fn initialised_here(&self) -> bool {
        false
    }

    fn rank(&self, _: Group) -> u32 {
        0
    }

    fn size(&self, _: Group) -> u32 {
        1
    }

    fn join(&mut self, _: &mut Wait<'_>) -> Result<()> {
        Ok(())
    }

    fn barrier(&mut self, _: Group, _: &mut Wait<'_>) -> Result<()> {
        Ok(())
    }

    fn split_shared(&mut self, _: Group, _: &mut Wait<'_>) -> Result<Group> {
        Ok(self.group())
    }

    fn split(
        &mut self,
        _: Group,
        color: Option<u32>,
        _: u32,
        _: &mut Wait<'_>,
    ) -> Result<Option<Group>> {
        Ok(color.map(|_| self.group()))
    }

    fn broadcast(&mut self, _: Group, root: u32, _: &mut [u8], _: &mut Wait<'_>) -> Result<()> {
        Self::check_root(root)
    }

    fn lowest(&mut self, _: Group, code: i64, _: &mut Wait<'_>) -> Result<Lowest> {
        Ok(Lowest { code, rank: 0 })
    }

    fn gather(
        &mut self,
        _: Group,
        root: u32,
        part: &[u8],
        _: &mut Wait<'_>,
    ) -> Result<Option<Vec<Vec<u8>>>> {
        Self::check_root(root)?;
        Ok(Some(vec![part.to_vec()]))
    }

    fn free(&mut self, _: Group) {}

    fn abort(&mut self, status: i32) -> ! {
        std::process::exit(status)
    }

    fn finalise(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_answers_every_collective_call_alone() {
        let mut local = Local::new();
        let wait = &mut Wait::asleep("itself", None);
        local.join(wait).unwrap();
        local.barrier(Group::WORLD, wait).unwrap();
        assert_eq!((local.rank(Group::WORLD), local.size(Group::WORLD)), (0, 1));
        let node = local.split_shared(Group::WORLD, wait).unwrap();
        let leaders = local
            .split(Group::WORLD, Some(3), 0, wait)
            .unwrap()
            .unwrap();
        assert_ne!(node, leaders);
        assert_eq!(local.split(Group::WORLD, None, 0, wait).unwrap(), None);
        let mut bytes = *b"kept";
        local.broadcast(leaders, 0, &mut bytes, wait).unwrap();
        assert_eq!(&bytes, b"kept");
        assert_eq!(
            local.lowest(node, -7, wait).unwrap(),
            Lowest { code: -7, rank: 0 }
        );
        assert_eq!(
            local.gather(node, 0, b"part", wait).unwrap(),
            Some(vec![b"part".to_vec()])
        );
        local.free(node);
        local.finalise().unwrap();
    }

    #[test]
    fn a_root_that_is_not_there_is_refused() {
        let wait = &mut Wait::asleep("itself", None);
        let error = Local::new()
            .broadcast(Group::WORLD, 1, &mut [], wait)
            .unwrap_err();
        assert_eq!(error.to_string(), "rank 1 is not in a group of 1");
    }
}

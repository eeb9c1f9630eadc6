//! The first rows of a sort by several keys.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as EngineResult;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::sorts::sort::SortExec;

use super::job_scan::JobScanExec;

/// Limits the scan below a sort with a limit to the first rows of its first key, and to those with equal keys. A sort by
/// one key is that of the scan.
#[derive(Debug)]
pub(super) struct FirstRows;

impl PhysicalOptimizerRule for FirstRows {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let limited = |plan: Arc<dyn ExecutionPlan>| {
            let scan = plan.downcast_ref::<SortExec>().and_then(|sort| {
                sort.input().downcast_ref::<JobScanExec>()?.first_by(sort.expr().first(), sort.fetch()?)
            });
            match scan {
                Some(scan) => Ok(Transformed::yes(replace_children_if_necessary(plan, vec![scan])?)),
                None => Ok(Transformed::no(plan)),
            }
        };
        Ok(plan.transform_up(limited)?.data)
    }

    fn name(&self) -> &str {
        "first_rows"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

//! Findings that parked or discarded events explain: a repair of the cache does not repair them.

use sqlx::PgConnection;
use uuid::Uuid;

use super::super::finding::Finding;

/// What explains a finding: the key and the event that it is about, what is reported about it, and what
/// repairs it.
type Explanation = (Option<Uuid>, Option<Uuid>, String, String);

/// Reports of each finding what parked or discarded event explains it. What is parked is repaired by trying
/// it again. What was discarded, and behind which nothing of its file was applied, is as the operator
/// wanted it; it stays a finding, because the cache is not what the files are.
pub(super) async fn by_parked_events(
    query: &mut PgConnection,
    findings: &mut [Finding],
) -> Result<(), sqlx::Error> {
    let ids: Vec<Uuid> = findings.iter().filter_map(|finding| finding.id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let explanations: Vec<Explanation> = sqlx::query_as(include_str!("sql/explained.sql"))
        .bind(&ids)
        .fetch_all(query)
        .await?;
    for finding in findings.iter_mut().filter(|finding| finding.id.is_some()) {
        let found = explanations
            .iter()
            .find(|(key, event, ..)| *key == finding.id || *event == finding.id);
        if let Some((_, _, said, repair)) = found {
            finding.detail += &format!("; {said}");
            finding.repair.clone_from(repair);
        }
    }
    Ok(())
}

//! Corrections of parsed statements.

use std::mem::replace;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Ident, UnaryOperator, visit_expressions_mut};

/// Groups the operators of a statement by their precedence: the parser takes the rest of the expression as the right
/// operand of `IS DISTINCT FROM`.
pub(super) fn regroup(statement: &mut Statement) {
    match statement {
        Statement::Statement(statement) => {
            let _ = visit_expressions_mut(&mut **statement, |expr| {
                lower(expr);
                ControlFlow::<()>::Continue(())
            });
        }
        Statement::Explain(explain) => regroup(&mut explain.statement),
        _ => {}
    }
}

/// Moves an operator below those of lower precedence in its last operand: `a IS DISTINCT FROM (b AND c)` becomes
/// `(a IS DISTINCT FROM b) AND c`. Parentheses of the statement are expressions of their own.
fn lower(expr: &mut Expr) {
    let own = precedence(expr);
    let last = match expr {
        Expr::IsDistinctFrom(_, last) | Expr::IsNotDistinctFrom(_, last) => last,
        Expr::BinaryOp { right: last, .. } | Expr::UnaryOp { op: UnaryOperator::Not, expr: last } => last,
        _ => return,
    };
    if !matches!(**last, Expr::BinaryOp { .. }) || precedence(last) >= own {
        return;
    }
    let nothing = || Expr::Identifier(Ident::new(""));
    if let Expr::BinaryOp { left, op, right } = replace(&mut **last, nothing()) {
        **last = *left;
        lower(expr);
        let left = Box::new(replace(expr, nothing()));
        *expr = Expr::BinaryOp { left, op, right };
    }
}

fn precedence(expr: &Expr) -> u8 {
    match expr {
        Expr::BinaryOp { op: BinaryOperator::Or, .. } => 0,
        Expr::BinaryOp { op: BinaryOperator::And, .. } => 1,
        Expr::UnaryOp { op: UnaryOperator::Not, .. } => 2,
        _ => 3,
    }
}

//! What rewritten texts call in place of what the engine does in another way than OPA. Policies cannot name them: the
//! checks know no such builtins.

use regorus::Value;

use crate::policy::builtins::{Builtin, BuiltinError};

/// `internal.claimgate.size(x, n)`: is it an object of exactly `n` members?
pub(super) const SIZE: &str = "internal.claimgate.size";

/// Every operator.
pub(in crate::policy) const ALL: &[Builtin] = &[Builtin { name: SIZE, arity: 2, call: size }];

fn size(args: &[Value]) -> Result<Value, BuiltinError> {
    let [Value::Object(members), wanted] = args else { return Ok(Value::from(false)) };
    Ok(Value::from(Value::from(members.len()) == *wanted))
}

"""Sales as money: what buyers of computing power owe, are invoiced for, and have paid."""

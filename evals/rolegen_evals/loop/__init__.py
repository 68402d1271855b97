"""The closed loop, measured in orders: rounds of decide, outcome and improve in planted shops, and month by month on a real log."""

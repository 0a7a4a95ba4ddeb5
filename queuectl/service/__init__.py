"""Use cases: each public function is one transaction on a store and returns frozen values."""

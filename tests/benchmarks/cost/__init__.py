"""What a map costs, beside the forward pass and beside other libraries."""

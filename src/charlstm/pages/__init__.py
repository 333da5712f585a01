"""What a person looks at outside of the terminal: a picture of the losses, a page of HTML."""

module ceil

go 1.22

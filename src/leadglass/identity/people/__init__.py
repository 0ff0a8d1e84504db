"""Which person is it? Factors, sessions, enrolment by link, leases, other people's directories."""
